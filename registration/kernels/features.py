"""Sampling of features, (batch, X, Y, Z, channel): all channels of a voxel lie side by side, as convolutions want.

Features may be float or the bits of bfloat16 (`bfloat16.load`); fields and arithmetic are float. Beyond the grid lie
its border values.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from lumirkit.base.compiled import compiled_loops, compiled_point
from lumirkit.registration.kernels.bfloat16 import load, store
from lumirkit.registration.kernels.sampling import corner_steps, row_slopes, row_weights

Array = np.ndarray[Any, Any]
Real = Any


@compiled_point
def _corner_weights(weights: Array, z: int) -> tuple[Real, Real, Real, Real, Real, Real, Real, Real]:
    wx0, wx1, wy0, wy1, wz0, wz1 = weights[:, z]
    a, b, c, d = wx0 * wy0, wx0 * wy1, wx1 * wy0, wx1 * wy1
    return a * wz0, a * wz1, b * wz0, b * wz1, c * wz0, c * wz1, d * wz0, d * wz1


@compiled_loops
def sample(volume: Array, disp: Array, ticks: Array, out: Array) -> None:
    """Sample features: out[b, x, :] = volume[b, x + disp[b](x), :]."""
    batch, size_x, size_y, size_z, channels = volume.shape
    shape = (size_x, size_y, size_z)
    sx, sy, sz = corner_steps(shape)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        index = np.empty(size_z, np.uint32)
        weights = np.empty((6, size_z), disp.dtype)
        v = volume[b].reshape(size_x * size_y * size_z, channels)
        for y in range(size_y):
            row_weights(disp[b], x, y, shape, ticks, False, index, weights)
            for z in range(size_z):
                w000, w001, w010, w011, w100, w101, w110, w111 = _corner_weights(weights, z)
                k = index[z]
                v000, v001, v010, v011 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                k += sx
                v100, v101, v110, v111 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                voxel = out[b, x, y, z]
                for c in range(channels):
                    low = w000 * load(v000[c]) + w001 * load(v001[c]) + w010 * load(v010[c]) + w011 * load(v011[c])
                    high = w100 * load(v100[c]) + w101 * load(v101[c]) + w110 * load(v110[c]) + w111 * load(v111[c])
                    store(voxel, c, low + high)


@compiled_loops
def grad_disp(grad_output: Array, volume: Array, disp: Array, ticks: Array, out: Array) -> None:
    """Differentiate `sample` with respect to the field.

    out[b, axis](x) = sum over c of grad_output[b, x, c] * d(`sample`[b, x, c]) / d disp[b, axis](x).
    """
    batch, size_x, size_y, size_z, channels = volume.shape
    shape = (size_x, size_y, size_z)
    sx, sy, sz = corner_steps(shape)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        index = np.empty(size_z, np.uint32)
        weights, slopes = np.empty((6, size_z), disp.dtype), np.empty((6, size_z), disp.dtype)
        v = volume[b].reshape(size_x * size_y * size_z, channels)
        for y in range(size_y):
            row_weights(disp[b], x, y, shape, ticks, False, index, weights)
            row_slopes(disp[b], x, y, shape, ticks, False, slopes)
            for z in range(size_z):
                k = index[z]
                v000, v001, v010, v011 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                k += sx
                v100, v101, v110, v111 = v[k], v[k + sz], v[k + sy], v[k + sy + sz]
                g = grad_output[b, x, y, z]
                s000 = s001 = s010 = s011 = s100 = s101 = s110 = s111 = ticks[0]
                for c in range(channels):  # the products of the gradient with each corner's features
                    gc = load(g[c])
                    s000 += gc * load(v000[c])
                    s001 += gc * load(v001[c])
                    s010 += gc * load(v010[c])
                    s011 += gc * load(v011[c])
                    s100 += gc * load(v100[c])
                    s101 += gc * load(v101[c])
                    s110 += gc * load(v110[c])
                    s111 += gc * load(v111[c])
                wx0, wx1, wy0, wy1, wz0, wz1 = weights[:, z]
                dx0, dx1, dy0, dy1, dz0, dz1 = slopes[:, z]
                z00, z01 = wz0 * s000 + wz1 * s001, wz0 * s010 + wz1 * s011
                z10, z11 = wz0 * s100 + wz1 * s101, wz0 * s110 + wz1 * s111
                out[b, 0, x, y, z] = dx0 * (wy0 * z00 + wy1 * z01) + dx1 * (wy0 * z10 + wy1 * z11)
                out[b, 1, x, y, z] = wx0 * (dy0 * z00 + dy1 * z01) + wx1 * (dy0 * z10 + dy1 * z11)
                low = wx0 * (wy0 * s000 + wy1 * s010) + wx1 * (wy0 * s100 + wy1 * s110)
                high = wx0 * (wy0 * s001 + wy1 * s011) + wx1 * (wy0 * s101 + wy1 * s111)
                out[b, 2, x, y, z] = dz0 * low + dz1 * high


@compiled_point
def _add_scaled(row: Array, weight: Real, g: Array) -> None:
    for c in range(g.size):
        row[c] += weight * load(g[c])


@compiled_loops
def grad_volume(grad_output: Array, disp: Array, ticks: Array, reached: Array, slabs: int, out: Array) -> None:
    """Add to `out` (float) the gradient of `sample` with respect to the volume, slab by slab as in `sampling`."""
    batch, size_x, size_y, size_z, channels = grad_output.shape
    shape = (size_x, size_y, size_z)
    sx, sy, sz = corner_steps(shape)
    for task in numba.prange(batch * slabs):
        b, slab = task // slabs, task % slabs
        first, end = slab * size_x // slabs, (slab + 1) * size_x // slabs
        below, above = np.uint32(first * size_y * size_z), np.uint32(end * size_y * size_z)
        index = np.empty(size_z, np.uint32)
        weights = np.empty((6, size_z), disp.dtype)
        v = out[b].reshape(size_x * size_y * size_z, channels)
        for x in range(size_x):
            if reached[b, x, 1] < first or reached[b, x, 0] >= end:
                continue
            for y in range(size_y):
                row_weights(disp[b], x, y, shape, ticks, False, index, weights)
                for z in range(size_z):
                    w000, w001, w010, w011, w100, w101, w110, w111 = _corner_weights(weights, z)
                    g = grad_output[b, x, y, z]
                    k = index[z]
                    if below <= k < above:
                        _add_scaled(v[k], w000, g)
                        _add_scaled(v[k + sz], w001, g)
                        _add_scaled(v[k + sy], w010, g)
                        _add_scaled(v[k + sy + sz], w011, g)
                    k += sx
                    if below <= k < above:
                        _add_scaled(v[k], w100, g)
                        _add_scaled(v[k + sz], w101, g)
                        _add_scaled(v[k + sy], w110, g)
                        _add_scaled(v[k + sy + sz], w111, g)
