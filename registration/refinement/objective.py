"""The loss of one pair: how alike the images are in both directions, and how smooth and free of folds the fields."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.losses import diffusion_loss, ndv_loss
from lumirkit.registration.network import Registration
from lumirkit.registration.refinement.comparison import Comparison
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.tensors import DisplacementVox


def pair_loss(registration: Registration, comparison: Comparison, settings: Refinement) -> Float[Tensor, ""]:
    """The loss of a registration, the mean over its two directions."""
    there = _roughness(registration.forward_vox, settings)
    back = _roughness(registration.inverse_vox, settings)
    return (there + back) / 2 - comparison.local_ncc(registration)


def _roughness(disp_vox: DisplacementVox, settings: Refinement) -> Float[Tensor, ""]:
    """How rough a field is, and how much of it folds."""
    roughness = settings.diffusion_weight * diffusion_loss(disp_vox)
    if settings.folding_weight > 0:
        roughness = roughness + settings.folding_weight * ndv_loss(disp_vox) / disp_vox[0, 0].numel()
    return roughness
