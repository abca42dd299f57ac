"""MIND on the CPU, row by row: no distance is stored for a whole volume, and the six channels lie side by side."""

from __future__ import annotations

import numba
import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from lumirkit.base.compiled import compiled_loops, compiled_point

_CHANNELS = 6  # the neighbours at x - 1, x + 1, y - 1, y + 1, z - 1, z + 1

Images = Float[ndarray, "batch x y z"]
Image = Float[ndarray, "x y z"]
Row = Float[ndarray, " z"]
Rows = Float[ndarray, "6 z"]


def fused_mind(
    image: Float[Tensor, "batch 1 x y z"], weights: Float64[Tensor, 3], variance_floor: float
) -> Float[Tensor, "batch 6 x y z"]:
    """Compute exp(-D / V) as `registration.mind` defines it; not differentiable.

    Args:
        image: float32 or float64, on the CPU; any strides.
        weights: what the voxel before, the voxel itself and the voxel behind count in the smoothing along an axis;
            symmetric.
        variance_floor: V is kept above this fraction of its mean over the image.

    Returns:
        The six channels in the dtype of the image, in the memory format channels_last_3d.
    """
    images = image.detach()[:, 0].contiguous().numpy()
    row_sums = np.empty(images.shape[:3])
    _sum_squares(images, row_sums)
    # Symmetric smoothing with replicated borders keeps the sum of a volume; each pair of neighbours counts from both.
    mean_sum_of_distances = 2 * row_sums.sum(axis=(1, 2)) / images[0].size
    smallest = torch.finfo(image.dtype).tiny
    floors = np.maximum(variance_floor * mean_sum_of_distances, _CHANNELS * smallest).astype(images.dtype)
    result = image.new_empty((*images.shape, _CHANNELS))
    side, middle = weights[:2].numpy().astype(images.dtype)
    _exponents(images, side, middle, floors, result.numpy())
    return result.exp_().permute(0, 4, 1, 2, 3)


@compiled_point
def _add_squares(total: Row, p: Row, q: Row, weight: float) -> None:
    """Add `weight` times the squared differences of two rows."""
    for z in range(total.size):
        difference = p[z] - q[z]
        total[z] += weight * difference * difference


@compiled_point
def _distances(image: Image, x: int, y: int, side: float, middle: float, rows: Rows) -> None:
    """Find the squared differences of a row of voxels to their six neighbours, smoothed along x."""
    size_x, size_y, size_z = image.shape
    for channel in range(_CHANNELS):
        for z in range(size_z):
            rows[channel, z] = 0
    for shift in range(-1, 2):
        weight = middle if shift == 0 else side
        i = min(max(x + shift, 0), size_x - 1)
        here = image[i, y]
        _add_squares(rows[0], here, image[max(i - 1, 0), y], weight)
        _add_squares(rows[1], here, image[min(i + 1, size_x - 1), y], weight)
        _add_squares(rows[2], here, image[i, max(y - 1, 0)], weight)
        _add_squares(rows[3], here, image[i, min(y + 1, size_y - 1)], weight)
        _add_squares(rows[4, 1:], here[1:], here[: size_z - 1], weight)
        _add_squares(rows[5, : size_z - 1], here[: size_z - 1], here[1:], weight)


@compiled_point
def _smooth(before: Row, here: Row, behind: Row, side: float, middle: float, padded: Row, smooth: Row) -> None:
    """Smooth three rows along y into `padded`, which is one value longer at both ends, then along z into `smooth`."""
    size = smooth.size
    inner = padded[1 : size + 1]
    for z in range(size):
        inner[z] = side * (before[z] + behind[z]) + middle * here[z]
    padded[0], padded[size + 1] = inner[0], inner[size - 1]
    lower, upper = padded[:size], padded[2:]
    for z in range(size):
        smooth[z] = side * (lower[z] + upper[z]) + middle * inner[z]


@compiled_point
def _normalise(distances: Rows, floor: float, total: Row, exponents: Float[ndarray, "z 6"]) -> None:
    """Compute -D / V for a row of voxels; `total` takes the sum of the six distances, which is kept above `floor`."""
    for z in range(total.size):
        total[z] = floor * 0
    for channel in range(_CHANNELS):
        distance = distances[channel]
        for z in range(total.size):
            total[z] += distance[z]
    minus_channels = distances.dtype.type(-_CHANNELS)
    for z in range(total.size):
        total[z] = minus_channels / (total[z] if total[z] > floor else floor)  # a floor of NaN stays
    for z in range(total.size):
        for channel in range(_CHANNELS):
            exponents[z, channel] = distances[channel, z] * total[z]


@compiled_point
def _plane_exponents(
    image: Image, x: int, side: float, middle: float, floor: float, exponents: Float[ndarray, "y z 6"]
) -> None:
    """Compute -D / V for plane x; three rows of distances are held at a time."""
    size_y, size_z = image.shape[1:]
    ring = np.empty((3, _CHANNELS, size_z), image.dtype)
    smooth = np.empty((_CHANNELS, size_z), image.dtype)
    padded, total = np.empty(size_z + 2, image.dtype), np.empty(size_z, image.dtype)
    _distances(image, x, 0, side, middle, ring[0])
    for y in range(size_y):
        before, behind = max(y - 1, 0), min(y + 1, size_y - 1)
        if behind > y:
            _distances(image, x, behind, side, middle, ring[behind % 3])
        for channel in range(_CHANNELS):
            rows = ring[before % 3, channel], ring[y % 3, channel], ring[behind % 3, channel]
            _smooth(rows[0], rows[1], rows[2], side, middle, padded, smooth[channel])
        _normalise(smooth, floor, total, exponents[y])


@compiled_point
def _squares(p: Row, q: Row) -> float:
    """The sum of the squared differences of two rows."""
    total = 0.0
    for z in range(p.size):
        difference = np.float64(p[z]) - np.float64(q[z])
        total += difference * difference
    return total


@compiled_point
def _sum_plane(image: Image, x: int, sums: Float64[ndarray, " y"]) -> None:
    """Sum the squared differences to the next neighbours along x, y and z over each row of plane x."""
    size_x, size_y, size_z = image.shape
    for y in range(size_y):
        here = image[x, y]
        sums[y] = _squares(here, image[min(x + 1, size_x - 1), y]) + _squares(here, image[x, min(y + 1, size_y - 1)])
        sums[y] += _squares(here[: size_z - 1], here[1:])


@compiled_loops
def _sum_squares(images: Images, row_sums: Float64[ndarray, "batch x y"]) -> None:
    """Sum the squared differences of all pairs of neighbours over rows."""
    size_x = images.shape[1]
    for part in numba.prange(len(images) * size_x):
        item, x = divmod(np.int64(part), size_x)
        _sum_plane(images[item], x, row_sums[item, x])


@compiled_loops
def _exponents(
    images: Images,
    side: float,
    middle: float,
    floors: Float[ndarray, " batch"],
    exponents: Float[ndarray, "batch x y z 6"],
) -> None:
    """Compute -D / V for all voxels."""
    size_x = images.shape[1]
    for part in numba.prange(len(images) * size_x):
        item, x = divmod(np.int64(part), size_x)
        _plane_exponents(images[item], x, side, middle, floors[item], exponents[item, x])
