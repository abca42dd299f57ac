"""The pairwise losses: NCC and SSIM inside the brains, diffusion of the displacement, its folded volume, and guidance.

A new term is a function here (`hausdorff_loss.py` is a file of its own), a weight in `loss_settings.py` whose default
leaves everything as it is, and its call in `objective.py`.

Source: Honkamaa & Marttinen, MELBA 2024:026 and 2025; soft Dice: Balakrishnan et al., "VoxelMorph", IEEE TMI 2019.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.ssim import local_ssim
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.warp import sample

_INSIDE = 0.999  # a linearly warped mask counts only where all its contributing voxels are inside


def masked_ncc_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox, window: int) -> Float[Tensor, ""]:
    """The negative local NCC of `fixed` and `moving` warped by `disp_vox`, both cut to where both show brain (> 0)."""
    return -local_ncc(*_where_both_show_brain(fixed, moving, disp_vox), window)


def masked_ssim_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The loss 1 - SSIM of `fixed` and warped `moving` (0…1), both cut to where both show brain (> 0)."""
    return 1 - local_ssim(*_where_both_show_brain(fixed, moving, disp_vox), data_range=1.0)


def _where_both_show_brain(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> tuple[Volume5d, Volume5d]:
    """The fixed and the warped moving image, 0 where one of them is background."""
    warped, inside = sample(torch.cat([moving, (moving > 0).to(moving)], dim=1), disp_vox, "zeros").chunk(2, dim=1)
    both = ((inside >= _INSIDE) & (fixed > 0)).to(fixed)
    return fixed * both, warped * both


def soft_dice_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The loss 1 - mean over masks of 2 |F and W| / (|F| + |W|), W the moving mask warped linearly by `disp_vox`."""
    warped = sample(moving, disp_vox)
    both, each = (fixed * warped).sum(dim=(2, 3, 4)), (fixed + warped).sum(dim=(2, 3, 4))
    return 1 - (2 * both / each.clamp(min=1)).mean()


def displacement_loss(disp_vox: DisplacementVox, true_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The mean squared distance of a field from the true one, in voxels squared."""
    return (disp_vox - true_vox).square().sum(dim=1).mean()


def diffusion_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The mean squared forward difference of the displacement (voxels), averaged over the three axes."""
    means = [disp_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
    return torch.stack(means).mean()


def ndv_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The non-diffeomorphic volume in voxels: the sum over the voxels of a field, and the mean over the batch.

    Raises:
        ValueError: an axis has fewer than 3 voxels.
    """
    return non_diffeomorphic_volume(disp_vox).sum(dim=(1, 2, 3)).mean()
