"""The losses of training alone: SSIM inside the brains, overlap of label maps, and distance from a true field.

NCC, diffusion and the folded volume, which the refinement of one pair minimises too, are in `registration/losses.py`.

A new term is a function here (`hausdorff_loss.py` is a file of its own), a weight in `loss_settings.py` whose default
leaves everything as it is, its place in `LossSettings.guiding` if it says how well a pair is registered, and its call
in `objective.py`.

Source: Honkamaa & Marttinen, MELBA 2024:026 and 2025; soft Dice: Balakrishnan et al., "VoxelMorph", IEEE TMI 2019.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.losses import where_both_show_brain
from lumirkit.registration.ssim import local_ssim
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.warp import sample


def masked_ssim_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The loss 1 - SSIM of `fixed` and warped `moving` (0…1), both cut to where both show brain (> 0)."""
    return 1 - local_ssim(*where_both_show_brain(fixed, moving, disp_vox), data_range=1.0)


def soft_dice_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The loss 1 - mean over masks of 2 |F and W| / (|F| + |W|), W the moving mask warped linearly by `disp_vox`."""
    warped = sample(moving, disp_vox)
    both, each = (fixed * warped).sum(dim=(2, 3, 4)), (fixed + warped).sum(dim=(2, 3, 4))
    return 1 - (2 * both / each.clamp(min=1)).mean()


def displacement_loss(disp_vox: DisplacementVox, true_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The mean squared distance of a field from the true one, in voxels squared."""
    return (disp_vox - true_vox).square().sum(dim=1).mean()
