"""Whether two images have one contrast, as a local correlation of their intensities needs it."""

from __future__ import annotations

import torch

from lumirkit.registration.losses import with_mask
from lumirkit.registration.network import Image, Registration
from lumirkit.registration.refinement.comparison import where_mostly_brain

_LEAST_CORRELATION = 0.5  # T1w with T1w of another scanner 0.85 to 0.93, with FLAIR 0.8, with T2w -0.5


def is_one_contrast(registration: Registration, fixed: Image, moving: Image) -> bool:
    """Whether registered images are alike in what is bright and dark: T1w and FLAIR are, T1w and T2w are not.

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
    """The correlation of two images where both show brain; 0 where that says nothing."""
    brain = (fixed > 0) & (warped > 0)
    if not brain.any():
        return 0.0
    correlation = torch.corrcoef(torch.stack([fixed[brain], warped[brain]]))[0, 1]
    return correlation.nan_to_num(0).item()  # images of one value have none
