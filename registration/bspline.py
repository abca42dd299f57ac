"""Cubic B-spline fields from control points, and the bound on control points that keeps such a field invertible.

Source: Honkamaa & Marttinen, "SITReg", MELBA 2024:026, section on guaranteed invertibility.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.resolution import coarse_size, fine_positions_on_coarse
from lumirkit.registration.separable import AxisOperator, apply_along_axes, clamped_operator
from lumirkit.registration.tensors import Volume5d

_SAFETY = 0.99  # strictly below 1, so that id + u stays a contraction away from folding


def cubic_bspline(t: Tensor) -> Tensor:
    """Evaluate the cubic B-spline beta3 at distance t (in control-point spacings); it is zero for |t| >= 2."""
    t = t.abs()
    near = 2 / 3 - t**2 + t**3 / 2
    far = (2 - t).clamp(min=0) ** 3 / 6
    return torch.where(t < 1, near, far)


@lru_cache(maxsize=64)
def _spline_operator(size: int, stride: int) -> AxisOperator:
    positions = fine_positions_on_coarse(size, stride)
    columns = positions.floor().long()[:, None] + torch.arange(-1, 3)
    return clamped_operator(cubic_bspline(positions[:, None] - columns), columns, coarse_size(size, stride))


def spline_displacement(
    control_points: Float[Tensor, "batch channel i j k"], stride: int, shape: Sequence[int]
) -> Volume5d:
    """Evaluate u(x) = stride * sum_k beta3(t - k) c_k with t = (x + 0.5) / stride - 0.5 on the grid of `shape`.

    Args:
        control_points: coefficients in voxels of the coarse grid (no prefilter), extended by replication; three
            channels of a displacement, or any number of volumes that are not one.
        stride: spacing of the control points in fine voxels.
        shape: (X, Y, Z) of the fine grid; the control points number ceil(shape / stride).

    Returns:
        The displacement in fine voxels, channel by channel.
    """
    return apply_along_axes(control_points * stride, [_spline_operator(size, stride) for size in shape])


@lru_cache(maxsize=32)
def invertibility_bound(stride: int) -> float:
    """The largest |control point| (coarse voxels, any component) for which the sampled field is surely invertible.

    It is 0.99 / K, with K the largest infinity-norm Lipschitz constant, over the sub-voxel offsets o, that control
    points of at most 1 can give the linearly interpolated field: max_o sum_k |sum_d stride * D_d phi_k(o)|, where
    phi_k is the tensor spline sampled at spacing 1 / stride and D_d its forward difference.
    """
    offsets = (torch.arange(stride, dtype=torch.float64) + 0.5) / stride - 0.5
    knots = torch.arange(-2, 4, dtype=torch.float64)  # every knot whose spline touches o or o + 1 / stride
    value = cubic_bspline(offsets[:, None] - knots)
    slope = (cubic_bspline(offsets[:, None] + 1 / stride - knots) - value) * stride
    largest = 0.0
    for v, s in zip(value, slope, strict=True):  # one x offset at a time bounds the memory
        gradient_sum = (
            torch.einsum("i,yj,zk->yzijk", s, value, value)
            + torch.einsum("i,yj,zk->yzijk", v, slope, value)
            + torch.einsum("i,yj,zk->yzijk", v, value, slope)
        )
        largest = max(largest, float(gradient_sum.abs().sum(dim=(2, 3, 4)).max()))
    return _SAFETY / largest
