"""Group normalisation followed by ReLU, and its gradient, on volumes with all channels of a voxel side by side.

Volumes are (batch, X, Y, Z * channels): a row holds voxel after voxel, so that per-channel numbers repeat along it and
every loop runs over whole rows. Sums are kept per x plane and added up in float64 in a fixed order: the result does not
depend on the number of threads. Float or bits of bfloat16 in and out; the numbers of the channels are float.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from lumirkit.base.compiled import compiled_loops, compiled_point
from lumirkit.registration.kernels.bfloat16 import load, store

Array = np.ndarray[Any, Any]


@compiled_point
def _fold_row(row_sums: Array, channel_sums: Array) -> None:
    channels = channel_sums.size
    for i in range(row_sums.size):
        channel_sums[i % channels] += row_sums[i]


@compiled_loops
def channel_sums(volume: Array, like: Array, sums: Array) -> None:
    """Sums of v and v * v: `sums` is (batch, X, 2, channels), float64; `like` gives the dtype to compute in."""
    batch, size_x, size_y, width = volume.shape
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        first, second = np.zeros((2, width), like.dtype)
        for y in range(size_y):
            row = volume[b, x, y]
            for i in range(width):
                v = load(row[i])
                first[i] += v
                second[i] += v * v
        _fold_row(first, sums[b, x, 0])
        _fold_row(second, sums[b, x, 1])


@compiled_loops
def scaled_relu(volume: Array, scale: Array, shift: Array, out: Array) -> None:
    """out = max(v * scale + shift, 0); `scale` and `shift` are (batch, Z * channels), one row each. NaN stays NaN."""
    batch, size_x, size_y, width = volume.shape
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        a, c = scale[b], shift[b]
        zero = a[0] - a[0]
        for y in range(size_y):
            row, result = volume[b, x, y], out[b, x, y]
            for i in range(width):
                v = load(row[i]) * a[i] + c[i]
                store(result, i, zero if v <= zero else v)


@compiled_loops
def gradient_sums(grad_output: Array, volume: Array, scale: Array, shift: Array, sums: Array) -> None:
    """Sums of g and g * v with g the gradient where the ReLU let it through; `sums` as in `channel_sums`."""
    batch, size_x, size_y, width = volume.shape
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        a, c = scale[b], shift[b]
        zero = a[0] - a[0]
        first, second = np.zeros((2, width), scale.dtype)
        for y in range(size_y):
            row, upstream = volume[b, x, y], grad_output[b, x, y]
            for i in range(width):
                v = load(row[i])
                g = zero if v * a[i] + c[i] <= zero else load(upstream[i])
                first[i] += g
                second[i] += g * v
        _fold_row(first, sums[b, x, 0])
        _fold_row(second, sums[b, x, 1])


@compiled_loops
def grad_volume(
    grad_output: Array, volume: Array, scale: Array, shift: Array, slope: Array, constant: Array, out: Array
) -> None:
    """out = g * scale + v * slope + constant, with g as in `gradient_sums`; the factors are (batch, Z * channels)."""
    batch, size_x, size_y, width = volume.shape
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        a, c, k, m = scale[b], shift[b], slope[b], constant[b]
        zero = a[0] - a[0]
        for y in range(size_y):
            row, upstream, result = volume[b, x, y], grad_output[b, x, y], out[b, x, y]
            for i in range(width):
                v = load(row[i])
                g = zero if v * a[i] + c[i] <= zero else load(upstream[i])
                store(result, i, g * a[i] + v * k[i] + m[i])
