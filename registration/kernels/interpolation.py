"""Linear interpolation at one point, as kernels need it: the cell, its weights, and how they change with the point.

Along each axis a point lies between two neighbouring voxels, `cell` and `cell + 1`, with a weight each. Border and zero
continuation differ only in these weights: beyond the grid the cell is the outermost one.

Numba promotes an int with a float32 to float64, so coordinates come from a table, `ticks` = 0, 1, 2… in the dtype of
the field: `ticks[x]` is the coordinate of voxel x, `ticks[1]` the constant 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload

from lumirkit.base.compiled import compiled

Real = Any
Array = np.ndarray[Any, Any]


def ticks_for(disp: Array) -> Array:
    """The table of coordinates for a field (batch, 3, X, Y, Z)."""
    return np.arange(max(*disp.shape[2:], 1) + 1, dtype=disp.dtype)


def floored(value: Real) -> Real:
    """The largest whole number up to `value`, of the same type; Numba has `np.floor` for the CPU alone."""
    return np.floor(value)


# Numba compares the signatures of an overload and its implementation, annotations included; so they have none.
@overload(floored)
def _floored(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return lambda value: np.floor(value)


@compiled
def clamped(position: Real, last: Real) -> Real:
    """Move `position` into 0…last; NaN becomes 0, so that no index is ever made from it."""
    zero = last - last
    position = position if position > zero else zero
    return position if position < last else last


@compiled
def axis_weights(position: Real, last: Real, one: Real, zeros: bool) -> tuple[Real, Real, Real]:
    """The cell (a whole real number) of a position and the weights of the cell's lower and upper voxel.

    Beyond the axis lies zero if `zeros`, else its border voxel. An axis of one voxel has cell 0 and upper weight 0.
    """
    inside = clamped(position, last)
    cell = clamped(floored(inside), last - one if last > one else last - last)
    upper = inside - cell
    lower = one - upper
    if zeros:
        share = clamped(one + position, one) * clamped(one + last - position, one)  # falls to 0 one voxel outside
        lower, upper = lower * share, upper * share
    return cell, lower, upper


@compiled
def axis_slopes(position: Real, last: Real, one: Real, zeros: bool) -> tuple[Real, Real]:
    """The derivatives of the weights of `axis_weights` with respect to the position: 0 where it is clamped."""
    zero = last - last
    if zeros:
        inner = one if (position >= zero) & (position < last) else zero
        rising = one if (position >= -one) & (position < zero) else zero
        falling = one if (position >= last) & (position < last + one) else zero
        # Beyond an end the one voxel left in reach is the cell's upper one above, its lower one below (or alone).
        alone = one if last == zero else zero
        return rising - inner - falling * alone, inner - falling * (one - alone)
    inner = one if (position > zero) & (position < last) else zero
    return -inner, inner
