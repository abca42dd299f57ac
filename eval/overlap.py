"""Dice overlap of label maps, all labels from three counts over the volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy import ndarray


def count_labels(label_map: Int32[ndarray, "*grid"], labels: Sequence[int]) -> Int64[ndarray, " labels"]:
    """Voxels of each of `labels` (whole numbers from 0) in a label map; other values are passed over."""
    wanted = np.asarray(labels, dtype=np.int64)
    top = int(wanted.max(initial=0))
    listed = label_map[(label_map >= 0) & (label_map <= top)]
    return np.bincount(listed, minlength=top + 1)[wanted]


def dice_per_label(
    fixed: Int32[ndarray, "x y z"],
    moving: Int32[ndarray, "x y z"],
    warped: Int32[ndarray, "x y z"],
    labels: Sequence[int],
) -> Float64[ndarray, " labels"]:
    """Dice of each label between the fixed and the warped label map.

    NaN where the label is absent from the fixed or from the unwarped moving map (the rule of the LUMIR evaluator); 0
    where warping emptied it.
    """
    in_fixed, in_warped = count_labels(fixed, labels), count_labels(warped, labels)
    in_both = count_labels(fixed[fixed == warped], labels)
    scored = (in_fixed > 0) & (count_labels(moving, labels) > 0)
    dice = np.full(len(labels), np.nan)
    dice[scored] = 2.0 * in_both[scored] / (in_fixed + in_warped)[scored]
    return dice
