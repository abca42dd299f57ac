"""Sampling of a volume through a displacement field, and composition of fields."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.kernels.dispatch import geometry_serves, kernels_serve
from lumirkit.registration.kernels.functions import Sample, SampleFeatures
from lumirkit.registration.tensors import DisplacementVox, Volume5d


def sample(volume: Volume5d, disp_vox: DisplacementVox, outside: Literal["border", "zeros"] = "border") -> Volume5d:
    """Read `volume` linearly at x + u(x); volume and field share one grid. Differentiable with respect to both.

    Args:
        volume: intensities of the field's dtype, or features in bfloat16; memory in channels_last_3d order stays in
            that order.
        disp_vox: the field u in voxels.
        outside: what lies beyond the grid, its nearest border voxel or zero.

    Raises:
        ValueError: volume and field are of different grids or batches.
    """
    if volume.shape[:1] + volume.shape[2:] != disp_vox.shape[:1] + disp_vox.shape[2:] or disp_vox.shape[1] != 3:
        raise ValueError(
            f"a volume of shape {tuple(volume.shape)} cannot be read through a field of shape {tuple(disp_vox.shape)}; "
            "expected (batch, channel, X, Y, Z) and (batch, 3, X, Y, Z)"
        )
    zeros = outside == "zeros"
    if kernels_serve(disp_vox) and not zeros and _holds_features(volume, disp_vox):
        return SampleFeatures.apply(volume, disp_vox)  # type: ignore[no-untyped-call]
    if geometry_serves(volume, disp_vox):
        return Sample.apply(volume, disp_vox, zeros, False)  # type: ignore[no-untyped-call]
    sampled = F.grid_sample(
        volume.to(disp_vox.dtype), sampling_grid(disp_vox), padding_mode=outside, align_corners=False
    )
    return sampled.to(volume.dtype)


def sample_nearest(
    volume: Volume5d, disp_vox: DisplacementVox, outside: Literal["border", "zeros"] = "border"
) -> Volume5d:
    """Read `volume` at the voxel nearest to x + u(x); volume and field share one grid.

    Args:
        volume: label ids as floats of the field's dtype.
        disp_vox: the field u in voxels.
        outside: what lies beyond the grid, its nearest border voxel or zero.
    """
    grid = sampling_grid(disp_vox)
    return F.grid_sample(volume, grid, mode="nearest", padding_mode=outside, align_corners=False)


def compose(outer: DisplacementVox, inner: DisplacementVox) -> DisplacementVox:
    """Compose two fields: the displacement of (id + outer) o (id + inner) is inner(x) + outer(x + inner(x))."""
    if outer.shape == inner.shape and geometry_serves(outer, inner):
        return Sample.apply(outer, inner, False, True)  # type: ignore[no-untyped-call]
    return inner + sample(outer, inner)


def _holds_features(volume: Volume5d, disp_vox: DisplacementVox) -> bool:
    """Whether all channels of a voxel lie side by side in memory, in a dtype that the kernels read."""
    in_order = volume.is_contiguous(memory_format=torch.channels_last_3d) and not volume.is_contiguous()
    return in_order and volume.dtype in (disp_vox.dtype, torch.bfloat16)


def sampling_grid(disp_vox: DisplacementVox) -> Float[Tensor, "batch x y z 3"]:
    """The positions x + u(x) in the form that `torch.nn.functional.grid_sample` takes with align_corners=False."""
    shape = disp_vox.shape[2:]
    grid = []
    for axis, size in enumerate(shape):
        centres = torch.arange(1, 2 * size, 2, device=disp_vox.device, dtype=disp_vox.dtype) / size - 1
        ones = [1] * 3
        ones[axis] = size
        grid.append(torch.add(centres.view(1, *ones), disp_vox[:, axis], alpha=2 / size))
    return torch.stack(grid[::-1], dim=-1)
