"""Robust Hausdorff distance between label maps, through DeepMind's surface-distance library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32
from numpy import ndarray
from scipy.ndimage import find_objects
from surface_distance import compute_robust_hausdorff, compute_surface_distances

from eval.overlap import count_labels

Box = tuple[slice, ...]

_PERCENT = 95
_SPACING = (1.0, 1.0, 1.0)  # the evaluator measures in voxels; LUMIR images have 1 mm


def hd95_per_label(
    fixed: Int32[ndarray, "x y z"],
    moving: Int32[ndarray, "x y z"],
    warped: Int32[ndarray, "x y z"],
    labels: Sequence[int],
) -> Float64[ndarray, " labels"]:
    """95th percentile Hausdorff distance, in voxels, of each label between the fixed and the warped label map.

    The larger of the two directed percentiles, weighted by surface area. NaN where the label is absent from the fixed
    or from the unwarped moving map; inf where warping emptied it (the rules of the LUMIR evaluator).
    """
    scored = (count_labels(fixed, labels) > 0) & (count_labels(moving, labels) > 0)
    boxes_fixed, boxes_warped = _boxes(fixed, labels), _boxes(warped, labels)
    hd95 = np.full(len(labels), np.nan)
    for index in np.flatnonzero(scored):
        label = labels[int(index)]
        box_fixed, box_warped = boxes_fixed[label], boxes_warped[label]
        if box_fixed is None or box_warped is None:
            hd95[index] = np.inf  # the library's own answer, which it cannot give under numpy 2 (it asks for np.Inf)
            continue
        box = _around(box_fixed, box_warped)
        distances = compute_surface_distances(fixed[box] == label, warped[box] == label, _SPACING)
        hd95[index] = compute_robust_hausdorff(distances, _PERCENT)
    return hd95


def _boxes(label_map: Int32[ndarray, "x y z"], labels: Sequence[int]) -> list[Box | None]:
    """The box of each label, at the label's index."""
    # find_objects passes over 0, and the background is scored too: move every label up by one.
    boxes: list[Box | None] = find_objects(label_map + 1, max_label=max(labels) + 1)
    return boxes


def _around(first: Box, second: Box) -> Box:
    pairs = zip(first, second, strict=True)
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs)
