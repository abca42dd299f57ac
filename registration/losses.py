"""What a pair's registration is judged by without labels: NCC inside the brains, diffusion, and the folded volume.

Training and the refinement of one pair minimise the same terms.

Source: Honkamaa & Marttinen, MELBA 2024:026 and 2025.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.kernels.diffusion import fused_squared_differences
from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.warp import sample

_INSIDE = 0.999  # a linearly warped mask counts only where all its contributing voxels are inside


def masked_ncc_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox, window: int) -> Float[Tensor, ""]:
    """The negative local NCC of `fixed` and `moving` warped by `disp_vox`, both cut to where both show brain (> 0)."""
    return -local_ncc(*where_both_show_brain(fixed, moving, disp_vox), window)


def with_mask(image: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch 2 x y z"]:
    """Join an image, background 0, and the mask of its brain as a second channel."""
    return torch.cat([image, (image > 0).to(image)], dim=1)


def where_both_show_brain(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox) -> tuple[Volume5d, Volume5d]:
    """The fixed and the warped moving image, 0 where one of them is background."""
    warped, inside = sample(with_mask(moving), disp_vox, "zeros").chunk(2, dim=1)
    both = ((inside >= _INSIDE) & (fixed > 0)).to(fixed)
    return fixed * both, warped * both


def diffusion_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The mean squared forward difference of the displacement (voxels), averaged over the three axes."""
    if not kernels_serve(disp_vox):
        return torch.stack([disp_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).mean()
    counts = torch.tensor([disp_vox.numel() // size * (size - 1) for size in disp_vox.shape[2:]])
    return (fused_squared_differences(disp_vox) / counts).mean().to(disp_vox.dtype)


def ndv_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """The non-diffeomorphic volume in voxels: the sum over the voxels of a field, and the mean over the batch.

    Raises:
        ValueError: an axis has fewer than 3 voxels.
    """
    return non_diffeomorphic_volume(disp_vox).sum(dim=(1, 2, 3)).mean()
