"""The loss of one pair: how alike the images are in both directions, and how smooth and free of folds the fields."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.losses import diffusion_loss, masked_ncc_loss, ndv_loss
from lumirkit.registration.network import Image, Registration
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.tensors import DisplacementVox


def pair_loss(registration: Registration, fixed: Image, moving: Image, settings: Refinement) -> Float[Tensor, ""]:
    """The loss of a registration, the mean over its two directions.

    Args:
        fixed: intensities 0…1, background 0, on the grid of the registration.
        moving: intensities of the shape, dtype and contrast of `fixed`.
    """
    there = _loss_of(registration.forward_vox, fixed, moving, settings)
    back = _loss_of(registration.inverse_vox, moving, fixed, settings)
    return (there + back) / 2


def _loss_of(disp_vox: DisplacementVox, fixed: Image, moving: Image, settings: Refinement) -> Float[Tensor, ""]:
    loss = masked_ncc_loss(fixed, moving, disp_vox, settings.ncc_window_vox)
    loss = loss + settings.diffusion_weight * diffusion_loss(disp_vox)
    if settings.folding_weight > 0:
        loss = loss + settings.folding_weight * ndv_loss(disp_vox) / fixed[0].numel()
    return loss
