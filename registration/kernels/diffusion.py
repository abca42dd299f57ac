"""The squared differences of neighbouring voxels on the CPU, and their gradient: one pass over the volume each."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumirkit.base.compiled import compiled_loops, compiled_point
from lumirkit.registration.tensors import DisplacementVox

Volumes = Float[ndarray, "n x y z"]


def fused_squared_differences(disp_vox: DisplacementVox) -> Float64[Tensor, " axis"]:
    """The sum of the squared forward differences along each axis, over all components and batches; differentiable.

    Args:
        disp_vox: float32 or float64, on the CPU; any strides.
    """
    return _SquaredDifferences.apply(disp_vox)  # type: ignore[no-untyped-call]


class _SquaredDifferences(torch.autograd.Function):
    """The three sums; the backward pass reads the field again."""

    @staticmethod
    def forward(ctx: Any, disp_vox: Tensor) -> Tensor:
        ctx.save_for_backward(disp_vox)
        volumes = _volumes(disp_vox)
        plane_sums = np.zeros((*volumes.shape[:2], 3))
        _sum_squares(volumes, plane_sums)
        return torch.from_numpy(plane_sums.sum(axis=(0, 1)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (disp_vox,) = ctx.saved_tensors
        gradient = torch.empty(disp_vox.shape, dtype=disp_vox.dtype)
        volumes = _volumes(disp_vox)
        _differentiate(volumes, (2 * grad_output).numpy().astype(volumes.dtype), _volumes(gradient))
        return gradient


def _volumes(disp_vox: Tensor) -> Volumes:
    return disp_vox.detach().contiguous().flatten(0, 1).numpy()


@compiled_loops
def _sum_squares(volumes: Volumes, plane_sums: Float64[ndarray, "n x 3"]) -> None:
    """Add up the squares of a plane's differences: to the plane behind it, to the next row, to the next voxel."""
    count, size_x, size_y, _ = volumes.shape
    for plane in numba.prange(count * size_x):
        n, x = plane // size_x, plane % size_x
        along_x = along_y = along_z = 0.0
        for y in range(size_y):
            row = volumes[n, x, y]
            if x + 1 < size_x:
                along_x += _squared_distance(row, volumes[n, x + 1, y])
            if y + 1 < size_y:
                along_y += _squared_distance(row, volumes[n, x, y + 1])
            along_z += _squared_distance(row[:-1], row[1:])
        plane_sums[n, x, 0] = along_x
        plane_sums[n, x, 1] = along_y
        plane_sums[n, x, 2] = along_z


@compiled_loops
def _differentiate(volumes: Volumes, factors: Float[ndarray, " 3"], gradient: Volumes) -> None:
    """Set the gradient: along each axis its factor times the differences to the two neighbours."""
    count, size_x, size_y, size_z = volumes.shape
    for plane in numba.prange(count * size_x):
        n, x = plane // size_x, plane % size_x
        for y in range(size_y):
            row, out = volumes[n, x, y], gradient[n, x, y]
            before_x, behind_x = volumes[n, max(x - 1, 0), y], volumes[n, min(x + 1, size_x - 1), y]
            before_y, behind_y = volumes[n, x, max(y - 1, 0)], volumes[n, x, min(y + 1, size_y - 1)]
            for z in range(size_z):
                value = row[z]
                along_x = (value - before_x[z]) + (value - behind_x[z])
                along_y = (value - before_y[z]) + (value - behind_y[z])
                out[z] = factors[0] * along_x + factors[1] * along_y
            for z in range(size_z - 1):
                step = factors[2] * (row[z + 1] - row[z])
                out[z] -= step
                out[z + 1] += step


@compiled_point
def _squared_distance(a: Float[ndarray, " z"], b: Float[ndarray, " z"]) -> float:
    total = 0.0
    for z in range(a.size):
        difference = a[z] - b[z]
        total += difference * difference
    return total
