"""Grids coarser than another: where their voxels lie on it, and images and fields carried between the two.

One rule serves all grids: voxel i of a grid coarser by `stride` sits at (i + 0.5) * stride - 0.5 on the finer one, the
centre of its block. A size that `stride` does not divide is rounded up, and the last block reaches over the border.
Displacements are in voxels of the grid that their name or docstring says, components in array-axis order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.separable import AxisOperator, apply_along_axes, interpolation_operator
from lumirkit.registration.tensors import DisplacementVox, ResizedDisplacementVox, ResizedVolume5d, Volume5d

_LEAST_SHARE = 0.5  # a block counts as brain from this share of brain voxels on


def coarse_size(size: int, stride: int) -> int:
    """The number of blocks of `stride` voxels that cover `size` voxels."""
    return -(-size // stride)


def coarse_shape(shape: Sequence[int], stride: int) -> tuple[int, ...]:
    """The shape of the grid coarser by `stride` that covers `shape`."""
    return tuple(coarse_size(size, stride) for size in shape)


def fine_positions_on_coarse(size: int, stride: int) -> Float[Tensor, " size"]:
    """The positions of `size` fine voxels along an axis, in coarse voxels (float64)."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) / stride - 0.5


@lru_cache(maxsize=64)
def _block_centre_operator(size: int, stride: int) -> AxisOperator:
    centres = (torch.arange(coarse_size(size, stride), dtype=torch.float64) + 0.5) * stride - 0.5
    return interpolation_operator(centres, size)


@lru_cache(maxsize=64)
def _refinement_operator(size: int, stride: int) -> AxisOperator:
    return interpolation_operator(fine_positions_on_coarse(size, stride), coarse_size(size, stride))


def displacement_at_block_centres(disp_vox: DisplacementVox, stride: int) -> ResizedDisplacementVox:
    """Read a field at the block centres of a coarser grid; the result is in voxels of that coarser grid."""
    if stride == 1:
        return disp_vox
    operators = [_block_centre_operator(size, stride) for size in disp_vox.shape[2:]]
    return apply_along_axes(disp_vox, operators) / stride


def refine_displacement(disp_coarse_vox: DisplacementVox, stride: int, shape: Sequence[int]) -> ResizedDisplacementVox:
    """Carry a field of the coarser grid to the fine grid of `shape`, linearly; the result is in fine voxels."""
    if stride == 1:
        return disp_coarse_vox
    return apply_along_axes(disp_coarse_vox * stride, [_refinement_operator(size, stride) for size in shape])


def coarsen_image(image: Volume5d, stride: int, brain_means: bool = False) -> ResizedVolume5d:
    """Take block means on the grid coarser by `stride`; blocks over the border are filled up with background 0.

    Args:
        brain_means: take the means of the brain's voxels (> 0) alone, and 0 where a block is mostly background. So the
            outline is no mixture of brain and background, which would be dark in any contrast.
    """
    if stride == 1:
        return image
    means = _block_means(image, stride)
    if not brain_means:
        return means
    share = _block_means((image > 0).to(image), stride)
    return means / share.clamp(min=_LEAST_SHARE) * (share >= _LEAST_SHARE)


def _block_means(volume: Volume5d, stride: int) -> ResizedVolume5d:
    return F.avg_pool3d(fill_blocks(volume, stride), stride)


def fill_blocks(volume: Volume5d, stride: int) -> ResizedVolume5d:
    """Fill up the last block of `stride` voxels along each axis with background 0."""
    x, y, z = (coarse_size(size, stride) * stride - size for size in volume.shape[2:])
    return F.pad(volume, [0, z, 0, y, 0, x]) if x or y or z else volume
