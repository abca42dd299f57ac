"""The pairwise losses: local NCC inside the brains, diffusion of the displacement, and its folded volume.

Source: Honkamaa & Marttinen, MELBA 2024:026 and 2025.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from registration.grid import DisplacementVox, Volume5d
from registration.jacobian import non_diffeomorphic_volume
from registration.separable import Matrix, apply_along_axes
from registration.warp import sample

_NCC_EPSILON = 1e-5
_INSIDE = 0.999  # a linearly warped mask counts only where all its contributing voxels are inside


@lru_cache(maxsize=64)
def _window_sum_matrix(size: int, window: int) -> Matrix:
    index = torch.arange(size)
    return ((index[:, None] - index).abs() <= window // 2).double()


def local_ncc(a: Volume5d, b: Volume5d, window: int) -> Float[Tensor, ""]:
    """Mean of the squared local correlation coefficient, in [0, 1].

    Args:
        a: intensities of the order of 1 (the stabilising constant 1e-5 is absolute).
        b: as `a`.
        window: edge of the cubic window in voxels, odd; zero beyond the volume.
    """
    matrices = [_window_sum_matrix(size, window) for size in a.shape[2:]]
    moments = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = apply_along_axes(moments, matrices).split(a.shape[1], dim=1)
    count = window**3
    cross = sum_ab - sum_a * sum_b / count
    variance_a = sum_aa - sum_a**2 / count
    variance_b = sum_bb - sum_b**2 / count
    return (cross**2 / (variance_a * variance_b + _NCC_EPSILON)).mean()


def masked_ncc_loss(fixed: Volume5d, moving: Volume5d, disp_vox: DisplacementVox, window: int) -> Float[Tensor, ""]:
    """Negative local NCC of `fixed` and `moving` warped by `disp_vox`, both cut to where both show brain (> 0)."""
    warped, inside = sample(torch.cat([moving, (moving > 0).to(moving)], dim=1), disp_vox, "zeros").chunk(2, dim=1)
    both = ((inside >= _INSIDE) & (fixed > 0)).to(fixed)
    return -local_ncc(fixed * both, warped * both, window)


def diffusion_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """Mean squared forward difference of the displacement (voxels), averaged over the three axes."""
    means = [disp_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
    return torch.stack(means).mean()


def ndv_loss(disp_vox: DisplacementVox) -> Float[Tensor, ""]:
    """Non-diffeomorphic volume in voxels: the sum over the voxels of a field, not their mean; mean over the batch.

    Raises:
        ValueError: an axis has fewer than 3 voxels.
    """
    return non_diffeomorphic_volume(disp_vox).sum(dim=(1, 2, 3)).mean()
