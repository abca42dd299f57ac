"""Whether two images have one contrast, as a local correlation of their intensities needs it."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from lumirkit.registration.losses import with_mask
from lumirkit.registration.network import Image, Registration
from lumirkit.registration.overlap import where_mostly_brain

_TISSUE = 0.6  # of the brain's median; cerebrospinal fluid lies below it, dark in T1w and FLAIR alike
_LEAST_CORRELATION = 0.77  # T1w with T1w of any scanner 0.785 to 0.955, with FLAIR 0.69 to 0.75, with T2w negative


def is_one_contrast(registration: Registration, fixed: Image, moving: Image) -> bool:
    """Whether registered images are alike in which tissue is bright: T1w images are, T1w with FLAIR or T2w are not.

    The limit lies between 19 pairs of T1w images, of four scanners, and 12 pairs of T1w and FLAIR images.

    Args:
        registration: the fields of both directions on the grid of the images.
        fixed: intensities of any positive range, background 0.
        moving: intensities of the shape and dtype of `fixed`.
    """
    first, second = with_mask(fixed), with_mask(moving)
    there = _correlation(*where_mostly_brain(first, second, registration.forward_vox))
    back = _correlation(*where_mostly_brain(second, first, registration.inverse_vox))
    return (there + back) / 2 >= _LEAST_CORRELATION


def _correlation(fixed: Image, warped: Image) -> float:
    """The correlation of two images where both show tissue; 0 where that says nothing."""
    brain = (fixed > 0) & (warped > 0)
    if not brain.any():
        return 0.0
    tissue = brain & _is_tissue(fixed, brain) & _is_tissue(warped, brain)
    correlation = torch.corrcoef(torch.stack([fixed[tissue], warped[tissue]]))[0, 1]
    return correlation.nan_to_num(0).item()  # images of one value have none


def _is_tissue(image: Image, brain: Bool[Tensor, "batch 1 x y z"]) -> Bool[Tensor, "batch 1 x y z"]:
    """Where an image is too bright for cerebrospinal fluid, if that is dark."""
    return image > _TISSUE * image[brain].median()
