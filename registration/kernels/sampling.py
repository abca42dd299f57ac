"""Sampling a volume through a displacement field: values, and gradients with respect to volume and field.

Volumes are (batch, channel, X, Y, Z) with contiguous rows along z, the layout of fields. Each row is done in two steps,
cells and weights of all its points, then every channel: both are loops without branches that become vector code.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from lumirkit.base.compiled import compiled, compiled_loops, compiled_point
from lumirkit.registration.kernels.interpolation import axis_slopes, axis_weights, clamped

Array = np.ndarray[Any, Any]


@compiled
def row_weights(
    disp: Array, x: int, y: int, shape: tuple[int, int, int], ticks: Array, zeros: bool, index: Array, weights: Array
) -> None:
    """Find the first corner (flat index) and the six axis weights of the points of one row; `disp` is (3, X, Y, Z)."""
    one, (last_x, last_y, last_z) = ticks[1], (ticks[shape[0] - 1], ticks[shape[1] - 1], ticks[shape[2] - 1])
    d0, d1, d2 = disp[0, x, y], disp[1, x, y], disp[2, x, y]
    size_y, size_z = np.int32(shape[1]), np.int32(shape[2])
    for z in range(d0.size):
        cx, ax, bx = axis_weights(ticks[x] + d0[z], last_x, one, zeros)
        cy, ay, by = axis_weights(ticks[y] + d1[z], last_y, one, zeros)
        cz, az, bz = axis_weights(ticks[z] + d2[z], last_z, one, zeros)
        index[z] = (np.int32(cx) * size_y + np.int32(cy)) * size_z + np.int32(cz)
        weights[0, z], weights[1, z] = ax, bx
        weights[2, z], weights[3, z] = ay, by
        weights[4, z], weights[5, z] = az, bz


@compiled_point
def corner_steps(shape: tuple[int, int, int]) -> tuple[np.uint32, np.uint32, np.uint32]:
    """The steps of the flat index to the next voxel along x, y, z; 0 along an axis of one voxel, whose weight is 0."""
    x, y, z = shape
    return np.uint32(y * z if x > 1 else 0), np.uint32(z if y > 1 else 0), np.uint32(1 if z > 1 else 0)


@compiled_loops
def sample(volume: Array, disp: Array, ticks: Array, zeros: bool, add_disp: bool, out: Array) -> None:
    """Sample a volume: out[b, c](x) = volume[b, c](x + disp[b](x)), plus disp[b, c](x) if `add_disp`.

    With `add_disp` a field takes the place of the volume, and the result is the composition of two fields.
    """
    batch, channels = volume.shape[:2]
    shape = volume.shape[2:]
    size_x, size_y, size_z = shape
    sx, sy, sz = corner_steps(shape)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        index = np.empty(size_z, np.uint32)
        weights = np.empty((6, size_z), volume.dtype)
        for y in range(size_y):
            row_weights(disp[b], x, y, shape, ticks, zeros, index, weights)
            wx0, wx1, wy0, wy1, wz0, wz1 = weights
            for c in range(channels):
                v = volume[b, c].reshape(size_x * size_y * size_z)
                row = out[b, c, x, y]
                for z in range(size_z):
                    k = index[z]
                    low = wy0[z] * (wz0[z] * v[k] + wz1[z] * v[k + sz])
                    low += wy1[z] * (wz0[z] * v[k + sy] + wz1[z] * v[k + sy + sz])
                    k += sx
                    high = wy0[z] * (wz0[z] * v[k] + wz1[z] * v[k + sz])
                    high += wy1[z] * (wz0[z] * v[k + sy] + wz1[z] * v[k + sy + sz])
                    row[z] = wx0[z] * low + wx1[z] * high
                if add_disp:
                    for z in range(size_z):
                        row[z] += disp[b, c, x, y, z]


@compiled
def row_slopes(
    disp: Array, x: int, y: int, shape: tuple[int, int, int], ticks: Array, zeros: bool, slopes: Array
) -> None:
    """Find the derivatives of the weights of `row_weights` with respect to the point's coordinate along their axis."""
    one, (last_x, last_y, last_z) = ticks[1], (ticks[shape[0] - 1], ticks[shape[1] - 1], ticks[shape[2] - 1])
    d0, d1, d2 = disp[0, x, y], disp[1, x, y], disp[2, x, y]
    for z in range(d0.size):
        ax, bx = axis_slopes(ticks[x] + d0[z], last_x, one, zeros)
        ay, by = axis_slopes(ticks[y] + d1[z], last_y, one, zeros)
        az, bz = axis_slopes(ticks[z] + d2[z], last_z, one, zeros)
        slopes[0, z], slopes[1, z] = ax, bx
        slopes[2, z], slopes[3, z] = ay, by
        slopes[4, z], slopes[5, z] = az, bz


@compiled_loops
def grad_disp(
    grad_output: Array, volume: Array, disp: Array, ticks: Array, zeros: bool, add_disp: bool, out: Array
) -> None:
    """Differentiate `sample` with respect to the field.

    out[b, axis] = sum over c of grad_output[b, c] * d(`sample`[b, c]) / d disp[b, axis].
    """
    batch, channels = volume.shape[:2]
    shape = volume.shape[2:]
    size_x, size_y, size_z = shape
    sx, sy, sz = corner_steps(shape)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        index = np.empty(size_z, np.uint32)
        weights = np.empty((6, size_z), volume.dtype)
        slopes = np.empty((6, size_z), volume.dtype)
        for y in range(size_y):
            row_weights(disp[b], x, y, shape, ticks, zeros, index, weights)
            row_slopes(disp[b], x, y, shape, ticks, zeros, slopes)
            wx0, wx1, wy0, wy1, wz0, wz1 = weights
            dx0, dx1, dy0, dy1, dz0, dz1 = slopes
            row0, row1, row2 = out[b, 0, x, y], out[b, 1, x, y], out[b, 2, x, y]
            for z in range(size_z):
                row0[z] = grad_output[b, 0, x, y, z] if add_disp else ticks[0]
                row1[z] = grad_output[b, 1, x, y, z] if add_disp else ticks[0]
                row2[z] = grad_output[b, 2, x, y, z] if add_disp else ticks[0]
            for c in range(channels):
                v = volume[b, c].reshape(size_x * size_y * size_z)
                g = grad_output[b, c, x, y]
                for z in range(size_z):
                    k = index[z]
                    v000, v001, v010, v011 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                    k += sx
                    v100, v101, v110, v111 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                    z00, z01 = wz0[z] * v000 + wz1[z] * v001, wz0[z] * v010 + wz1[z] * v011
                    z10, z11 = wz0[z] * v100 + wz1[z] * v101, wz0[z] * v110 + wz1[z] * v111
                    low, high = wy0[z] * z00 + wy1[z] * z01, wy0[z] * z10 + wy1[z] * z11
                    row0[z] += g[z] * (dx0[z] * low + dx1[z] * high)
                    row1[z] += g[z] * (wx0[z] * (dy0[z] * z00 + dy1[z] * z01) + wx1[z] * (dy0[z] * z10 + dy1[z] * z11))
                    y0, y1 = wy0[z] * v000 + wy1[z] * v010, wy0[z] * v001 + wy1[z] * v011
                    e0, e1 = wy0[z] * v100 + wy1[z] * v110, wy0[z] * v101 + wy1[z] * v111
                    row2[z] += g[z] * (dz0[z] * (wx0[z] * y0 + wx1[z] * e0) + dz1[z] * (wx0[z] * y1 + wx1[z] * e1))


@compiled_loops
def planes_reached(disp: Array, ticks: Array) -> Array:
    """Find the first and the last x plane of the volume that each x plane of the field reads; (batch, X, 2)."""
    batch, _, size_x, size_y, size_z = disp.shape
    last = ticks[size_x - 1]
    reached = np.empty((batch, size_x, 2), np.int32)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        lowest, highest = last, ticks[0]
        for y in range(size_y):
            row = disp[b, 0, x, y]
            for z in range(size_z):
                inside = clamped(ticks[x] + row[z], last)
                lowest = inside if inside < lowest else lowest
                highest = inside if inside > highest else highest
        reached[b, x, 0] = max(np.int32(lowest) - 1, 0)  # a point on the last plane belongs to the cell before it
        reached[b, x, 1] = min(np.int32(highest) + 1, size_x - 1)
    return reached


@compiled_loops
def grad_volume(
    grad_output: Array, disp: Array, ticks: Array, zeros: bool, reached: Array, slabs: int, out: Array
) -> None:
    """Add to `out` the gradient of `sample` with respect to the volume: the transpose of the interpolation.

    Every task owns a slab of x planes of `out` and visits the points that reach it in their order, so the sums are the
    same to the last bit whatever the number of slabs and threads.
    """
    batch, channels, size_x, size_y, size_z = grad_output.shape
    shape = (size_x, size_y, size_z)
    sx, sy, sz = corner_steps(shape)
    for task in numba.prange(batch * slabs):
        b, slab = task // slabs, task % slabs
        first, end = slab * size_x // slabs, (slab + 1) * size_x // slabs
        below, above = np.uint32(first * size_y * size_z), np.uint32(end * size_y * size_z)
        index = np.empty(size_z, np.uint32)
        weights = np.empty((6, size_z), grad_output.dtype)
        for x in range(size_x):
            if reached[b, x, 1] < first or reached[b, x, 0] >= end:
                continue
            for y in range(size_y):
                row_weights(disp[b], x, y, shape, ticks, zeros, index, weights)
                wx0, wx1, wy0, wy1, wz0, wz1 = weights
                for c in range(channels):
                    v = out[b, c].reshape(size_x * size_y * size_z)
                    g = grad_output[b, c, x, y]
                    for z in range(size_z):
                        k = index[z]
                        if below <= k < above:
                            add_face(v, k, sy, sz, g[z] * wx0[z], wy0[z], wy1[z], wz0[z], wz1[z])
                        k += sx
                        if below <= k < above:
                            add_face(v, k, sy, sz, g[z] * wx1[z], wy0[z], wy1[z], wz0[z], wz1[z])


@compiled_point
def add_face(v: Array, k: np.uint32, sy: np.uint32, sz: np.uint32, g: Any, y0: Any, y1: Any, z0: Any, z1: Any) -> None:
    """Add g times the weights of four corners in one x plane."""
    low, high = g * y0, g * y1
    v[k] += low * z0
    v[k + sz] += low * z1
    v[k + sy] += high * z0
    v[k + sy + sz] += high * z1
