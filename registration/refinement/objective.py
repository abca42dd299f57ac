"""The loss of one pair: how alike the images are in both directions, and how smooth and free of folds the fields."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.losses import diffusion_loss, ndv_loss
from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.network import Image, Registration
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.tensors import DisplacementVox, ResizedDisplacementVox
from lumirkit.registration.warp import sample

ImageAndMask = Float[Tensor, "batch 2 x y z"]

_BRAIN = 0.5  # share of a warped voxel that has to be brain


def pair_loss(
    registration: Registration, fixed: ImageAndMask, moving: ImageAndMask, stride: int, settings: Refinement
) -> Float[Tensor, ""]:
    """The loss of a registration, the mean over its two directions.

    Args:
        fixed: what `with_mask` makes of the fixed image.
        moving: the same of the moving image, of the shape and dtype of `fixed`.
        stride: how many of their voxels one of the registration's grid spans along each axis.
    """
    there = _loss_of(registration.forward_vox, fixed, moving, stride, settings)
    back = _loss_of(registration.inverse_vox, moving, fixed, stride, settings)
    return (there + back) / 2


def _loss_of(
    disp_vox: ResizedDisplacementVox, fixed: ImageAndMask, moving: ImageAndMask, stride: int, settings: Refinement
) -> Float[Tensor, ""]:
    refined_vox = refine_displacement(disp_vox, stride, fixed.shape[2:])
    loss = -local_ncc(*where_mostly_brain(fixed, moving, refined_vox), settings.ncc_window_vox)
    loss = loss + settings.diffusion_weight * diffusion_loss(disp_vox)
    if settings.folding_weight > 0:
        loss = loss + settings.folding_weight * ndv_loss(disp_vox) / disp_vox[0, 0].numel()
    return loss


def where_mostly_brain(fixed: ImageAndMask, moving: ImageAndMask, disp_vox: DisplacementVox) -> tuple[Image, Image]:
    """The fixed and the warped moving image, 0 where one of them is mostly background.

    Only the moving brain's own voxels are averaged. So the outline is as bright as the brain, and a field that moves by
    a little cuts no voxels off, as it does in training: descent compares losses that differ by little.
    """
    image, mask = fixed.chunk(2, dim=1)
    warped, share = sample(moving, disp_vox, "zeros").chunk(2, dim=1)
    both = (share >= _BRAIN).to(mask) * mask
    return image * both, warped * (both / share.clamp(min=_BRAIN))
