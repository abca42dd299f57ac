"""Local NCC on the CPU: window sums that slide over slabs of planes, and the exact gradient.

A window sum is three box sums. Along x a plane of sums slides: what enters the window is added, what leaves it is taken
away; along y a row of that plane slides; along z all taps are added, which makes vector instructions of it. All sums
are float64, so that sliding leaves no trace: where an image is 0 its variance is 0 far below the stabilising constant.
No window sum is stored for a whole volume.
"""

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
from lumirkit.registration.tensors import Volume5d

_SLABS = 16  # per volume, whatever the number of threads: the results are then the same to the last bit
_MOMENTS = 5  # sums of a, b, aa, bb, ab
_COEFFICIENTS = 3  # the factors of b, of a and of 1 in the gradient with respect to a

Volumes = Float[ndarray, "n x y*z"]
Planes = Float[ndarray, "x y*z"]
Plane = Float[ndarray, " y*z"]
PlaneSums = Float64[ndarray, "sums y*z"]
RowSums = Float64[ndarray, "sums z"]


def fused_local_ncc(a: Volume5d, b: Volume5d, window: int, epsilon: float) -> Float[Tensor, ""]:
    """The mean of cross^2 / (variance_a * variance_b + epsilon) over all windows and channels; differentiable.

    Args:
        a: intensities, float32 or float64, on the CPU; any strides.
        b: intensities of the shape and dtype of `a`.
        window: edge of the cubic window in voxels, odd; zero beyond the volume.
        epsilon: the stabilising constant.
    """
    return _LocalNcc.apply(a, b, window, epsilon)  # type: ignore[no-untyped-call]


class _LocalNcc(torch.autograd.Function):
    """Local NCC of two images, which alone are kept: their window sums cost less to repeat than to hold."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, window: int, epsilon: float) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.window, ctx.epsilon = window, epsilon
        values, _ = _walk(a, b, window, epsilon, coefficients=0)
        return a.new_tensor(values.sum() / a.numel())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b = ctx.saved_tensors
        # The formula is symmetric: the gradient with respect to b is that to a of the exchanged images.
        grad_a, grad_b = (
            _grad_first(*images, ctx.window, ctx.epsilon, float(grad_output) / a.numel()) if needed else None
            for needed, images in zip(ctx.needs_input_grad[:2], ((a, b), (b, a)), strict=True)
        )
        return grad_a, grad_b, None, None


def _grad_first(a: Volume5d, b: Volume5d, window: int, epsilon: float, scale: float) -> Volume5d:
    """`scale` times the gradient of the sum over all windows with respect to `a`."""
    _, coefficients = _walk(a, b, window, epsilon, _COEFFICIENTS)
    gradient = torch.empty(a.shape, dtype=a.dtype)
    _combine(_planes(a), _planes(b), a.shape[4], window // 2, coefficients, scale, _planes(gradient))
    return gradient


def _walk(
    a: Volume5d, b: Volume5d, window: int, epsilon: float, coefficients: int
) -> tuple[Float64[ndarray, "n x y"], Float[ndarray, "n coefficients x y*z"]]:
    """The row sums of the values of all windows, and that many coefficients of their gradient."""
    planes = _planes(a)
    values = np.empty((*planes.shape[:2], a.shape[3]))
    factors = np.empty((len(planes), coefficients, *planes.shape[1:]), planes.dtype)
    _correlate(planes, _planes(b), window // 2, epsilon, values, factors)
    return values, factors


def _planes(images: Volume5d) -> Volumes:
    """Put all channels of all images one after the other, each plane flat; the result is a view where it can be."""
    return images.detach().contiguous().flatten(0, 1).flatten(2).numpy()


@compiled_point
def _plane(volume: Planes, x: int, nothing: Plane) -> Plane:
    """Plane x of the volume, or zeros beyond it."""
    return volume[x] if 0 <= x < len(volume) else nothing


@compiled_point
def _slide(sums: Float64[ndarray, " n"], entering: Float[ndarray, " n"], leaving: Float[ndarray, " n"]) -> None:
    """Let one plane or row enter the window and another leave it."""
    for i in range(sums.size):
        sums[i] += np.float64(entering[i]) - np.float64(leaving[i])


@compiled_point
def _slide_moments(sums: PlaneSums, a_in: Plane, b_in: Plane, a_out: Plane, b_out: Plane) -> None:
    """Let the planes of both images enter the window and others leave it."""
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = sums[0], sums[1], sums[2], sums[3], sums[4]
    for i in range(a_in.size):
        p, q = np.float64(a_in[i]), np.float64(b_in[i])
        r, s = np.float64(a_out[i]), np.float64(b_out[i])
        sum_a[i] += p - r
        sum_b[i] += q - s
        sum_aa[i] += p * p - r * r
        sum_bb[i] += q * q - s * s
        sum_ab[i] += p * q - r * s


@compiled_point
def _move_to_row(y: int, padded: PlaneSums, radius: int, row: RowSums, sums: RowSums) -> None:
    """Slide the window from row y - 1 to row y, then sum it along z.

    Args:
        y: called with 0, 1, 2 and so on.
        padded: the sums along x, radius + 1 rows of zeros before them and radius behind.
        row: the sums along x and y, radius zeros at both ends; kept from call to call.
        sums: the result.
    """
    size_z = sums.shape[1]
    for k in range(len(sums)):
        inner = row[k, radius : radius + size_z]
        nothing = padded[k, :size_z]
        if y == 0:
            for z in range(size_z):
                inner[z] = 0.0
            for before in range(2 * radius + 1):
                _slide(inner, padded[k, before * size_z : (before + 1) * size_z], nothing)
        ahead = (y + 2 * radius + 1) * size_z
        _slide(inner, padded[k, ahead : ahead + size_z], padded[k, y * size_z : (y + 1) * size_z])
        _box_sum(row[k], sums[k])


@compiled_point
def _box_sum(padded: Float64[ndarray, " padded"], sums: Float64[ndarray, " z"]) -> None:
    """Sum consecutive values: one more of them than `padded` is longer than `sums`."""
    for z in range(sums.size):
        sums[z] = padded[z]
    for shift in range(1, padded.size - sums.size + 1):
        moved = padded[shift : shift + sums.size]
        for z in range(sums.size):
            sums[z] += moved[z]


@compiled_point
def _correlation(sums: RowSums, per_voxel: float, epsilon: float) -> float:
    """The sum of the values of a row of windows."""
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = sums[0], sums[1], sums[2], sums[3], sums[4]
    total = 0.0
    for z in range(sum_a.size):
        cross = sum_ab[z] - sum_a[z] * sum_b[z] * per_voxel
        variance_a = sum_aa[z] - sum_a[z] * sum_a[z] * per_voxel
        variance_b = sum_bb[z] - sum_b[z] * sum_b[z] * per_voxel
        total += cross * cross / (variance_a * variance_b + epsilon)
    return total


@compiled_point
def _differentiate(
    sums: RowSums, per_voxel: float, epsilon: float, coefficients: Float[ndarray, "coefficients z"]
) -> None:
    """Find the coefficients of each window of a row: d value / d a(x) = c0 b(x) + c1 a(x) + c2 for its voxels x."""
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = sums[0], sums[1], sums[2], sums[3], sums[4]
    factor_b, factor_a, constant = coefficients[0], coefficients[1], coefficients[2]
    for z in range(sum_a.size):
        mean_a, mean_b = sum_a[z] * per_voxel, sum_b[z] * per_voxel
        cross = sum_ab[z] - sum_a[z] * mean_b
        variance_a = sum_aa[z] - sum_a[z] * mean_a
        variance_b = sum_bb[z] - sum_b[z] * mean_b
        twice = 2 * cross / (variance_a * variance_b + epsilon)
        slope = -0.5 * twice * twice * variance_b
        factor_b[z] = twice
        factor_a[z] = slope
        constant[z] = -twice * mean_b - slope * mean_a


@compiled_point
def _gradient_row(
    a: Float[ndarray, " z"], b: Float[ndarray, " z"], sums: RowSums, scale: float, gradient: Float[ndarray, " z"]
) -> None:
    """Compute `scale` times the gradient of a row, from the sums of the factors of b, of a and of 1."""
    factor_b, factor_a, constant = sums[0], sums[1], sums[2]
    for z in range(a.size):
        gradient[z] = scale * (factor_b[z] * b[z] + factor_a[z] * a[z] + constant[z])


@compiled_point
def _slab(part: int, size_x: int) -> tuple[int, int, int]:
    """The volume, the first plane and the end of a part of the work; int64, as a parallel loop's index is unsigned."""
    slabs = min(_SLABS, size_x)
    item, slab = part // slabs, part % slabs
    return item, slab * size_x // slabs, (slab + 1) * size_x // slabs


@compiled_point
def _correlate_slab(
    a: Planes,
    b: Planes,
    start: int,
    stop: int,
    radius: int,
    epsilon: float,
    values: Float64[ndarray, "x y"],
    coefficients: Float[ndarray, "coefficients x y*z"],
) -> None:
    """Do the work of `_correlate` for the planes from `start` to `stop` of one volume."""
    size_y = values.shape[1]
    size_z = a.shape[1] // size_y
    per_voxel = 1 / (2 * radius + 1) ** 3
    padded = np.zeros((_MOMENTS, (size_y + 2 * radius + 1) * size_z))
    inner = padded[:, (radius + 1) * size_z : (radius + 1 + size_y) * size_z]
    row, sums = np.zeros((_MOMENTS, size_z + 2 * radius)), np.empty((_MOMENTS, size_z))
    nothing = np.zeros_like(a[0])
    for x in range(start - 2 * radius - 1, stop):
        ahead, behind = x + radius, x - radius - 1 if x >= start else -1
        a_in, b_in = _plane(a, ahead, nothing), _plane(b, ahead, nothing)
        _slide_moments(inner, a_in, b_in, _plane(a, behind, nothing), _plane(b, behind, nothing))
        if x < start:
            continue
        for y in range(size_y):
            _move_to_row(y, padded, radius, row, sums)
            values[x, y] = _correlation(sums, per_voxel, epsilon)
            if len(coefficients) > 0:
                _differentiate(sums, per_voxel, epsilon, coefficients[:, x, y * size_z : (y + 1) * size_z])


@compiled_point
def _combine_slab(
    a: Planes,
    b: Planes,
    start: int,
    stop: int,
    size_z: int,
    radius: int,
    coefficients: Float[ndarray, "coefficients x y*z"],
    scale: float,
    gradient: Planes,
) -> None:
    """Do the work of `_combine` for the planes from `start` to `stop` of one volume."""
    size_y = a.shape[1] // size_z
    padded = np.zeros((_COEFFICIENTS, (size_y + 2 * radius + 1) * size_z))
    inner = padded[:, (radius + 1) * size_z : (radius + 1 + size_y) * size_z]
    row, sums = np.zeros((_COEFFICIENTS, size_z + 2 * radius)), np.empty((_COEFFICIENTS, size_z))
    nothing = np.zeros_like(a[0])
    for x in range(start - 2 * radius - 1, stop):
        ahead, behind = x + radius, x - radius - 1 if x >= start else -1
        for k in range(_COEFFICIENTS):
            volume = coefficients[k]
            _slide(inner[k], _plane(volume, ahead, nothing), _plane(volume, behind, nothing))
        if x < start:
            continue
        for y in range(size_y):
            _move_to_row(y, padded, radius, row, sums)
            low, high = y * size_z, (y + 1) * size_z
            _gradient_row(a[x, low:high], b[x, low:high], sums, scale, gradient[x, low:high])


@compiled_loops
def _correlate(
    a: Volumes,
    b: Volumes,
    radius: int,
    epsilon: float,
    values: Float64[ndarray, "n x y"],
    coefficients: Float[ndarray, "n coefficients x y*z"],
) -> None:
    """Sum the values of all windows over rows, and find the gradient's coefficients where there is room for them."""
    for part in numba.prange(a.shape[0] * min(_SLABS, a.shape[1])):
        n, start, stop = _slab(int(np.int64(part)), a.shape[1])
        _correlate_slab(a[n], b[n], start, stop, radius, epsilon, values[n], coefficients[n])


@compiled_loops
def _combine(
    a: Volumes,
    b: Volumes,
    size_z: int,
    radius: int,
    coefficients: Float[ndarray, "n coefficients x y*z"],
    scale: float,
    gradient: Volumes,
) -> None:
    """Compute each voxel's gradient: the summed coefficients of all windows that hold it, times its b, a and 1."""
    for part in numba.prange(a.shape[0] * min(_SLABS, a.shape[1])):
        n, start, stop = _slab(int(np.int64(part)), a.shape[1])
        _combine_slab(a[n], b[n], start, stop, size_z, radius, coefficients[n], scale, gradient[n])
