"""The kernels as differentiable torch functions.

The callers have asked `dispatch` before whether kernels serve their tensors; the functions here take that for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumirkit.registration.kernels import features, group_norm, sampling, taps
from lumirkit.registration.kernels.cpu import as_array, slabs
from lumirkit.registration.kernels.dispatch import geometry_of
from lumirkit.registration.kernels.interpolation import ticks_for

Array = np.ndarray[Any, Any]
Taps = tuple[Array, Array]


def _channels_last(volume: Tensor) -> Array:
    """(batch, channel, X, Y, Z) as an array (batch, X, Y, Z, channel), a view where the memory lies so."""
    return as_array(volume.permute(0, 2, 3, 4, 1))


def _empty_channels_last(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty_like(like, dtype=dtype, memory_format=torch.channels_last_3d)


class ApplyTaps(torch.autograd.Function):
    """A sparse operator along one spatial axis of (batch, channel, X, Y, Z); the gradient is its transpose."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, operator: Taps, transposed: Taps, axis: int) -> Tensor:
        ctx.transposed, ctx.axis = transposed, axis
        return _apply_taps(volume, operator, axis)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        return _apply_taps(grad_output, ctx.transposed, ctx.axis), None, None, None


def _apply_taps(volume: Tensor, operator: Taps, axis: int) -> Tensor:
    columns, weights = operator[0], operator[1].astype(as_array(volume).dtype)
    shape = list(volume.shape)
    shape[2 + axis] = columns.shape[1]
    out = torch.empty(shape, dtype=volume.dtype)
    v, result = as_array(volume), out.numpy()
    if axis == 2:
        taps.apply_within_rows(v.reshape(-1, v.shape[-1]), columns, weights, result.reshape(-1, shape[-1]))
    else:
        n, width = prod(shape[: 2 + axis]), prod(shape[3 + axis :])
        taps.apply_to_rows(v.reshape(n, -1, width), columns, weights, result.reshape(n, -1, width))
    return out


class Sample(torch.autograd.Function):
    """volume(x + disp(x)), plus disp(x) if `add_disp`: (batch, channel, X, Y, Z) with field (batch, 3, X, Y, Z)."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
        ctx.save_for_backward(volume, disp_vox)
        ctx.zeros, ctx.add_disp = zeros, add_disp
        return geometry_of(disp_vox).sample(volume, disp_vox, zeros, add_disp)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        volume, disp_vox = ctx.saved_tensors
        needs_volume, needs_disp = ctx.needs_input_grad[:2]
        kernels = geometry_of(disp_vox)
        grad_volume = grad_disp = None
        if needs_volume:
            grad_volume = kernels.grad_volume(grad_output, disp_vox, ctx.zeros)
        if needs_disp:
            grad_disp = kernels.grad_disp(grad_output, volume, disp_vox, ctx.zeros, ctx.add_disp)
        return grad_volume, grad_disp, None, None


class SampleFeatures(torch.autograd.Function):
    """volume(x + disp(x)) for volumes in channels_last_3d memory, float or bfloat16, continued with their border."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, disp_vox: Tensor) -> Tensor:
        ctx.save_for_backward(volume, disp_vox)
        disp = as_array(disp_vox)
        out = _empty_channels_last(volume)
        features.sample(_channels_last(volume), disp, ticks_for(disp), _channels_last(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
        volume, disp_vox = ctx.saved_tensors
        needs_volume, needs_disp = ctx.needs_input_grad
        g, disp = _channels_last(grad_output), as_array(disp_vox)
        ticks = ticks_for(disp)
        grad_volume = grad_disp = None
        if needs_volume:
            sums = _empty_channels_last(volume, disp_vox.dtype).zero_()
            reached = sampling.planes_reached(disp, ticks)
            features.grad_volume(g, disp, ticks, reached, slabs(len(g)), _channels_last(sums))
            grad_volume = sums.to(volume.dtype)
        if needs_disp:
            grad_disp = torch.empty(disp_vox.shape, dtype=disp_vox.dtype)
            features.grad_disp(g, _channels_last(volume), disp, ticks, grad_disp.numpy())
        return grad_volume, grad_disp


class Invert(torch.autograd.Function):
    """The inverse displacement; its gradient is -(I + J(x + v))^-T g, put back to where u was read."""

    @staticmethod
    def forward(ctx: Any, disp_vox: Tensor, tolerance: float, most_steps: int, smallest_determinant: float) -> Tensor:
        inverse_vox = geometry_of(disp_vox).invert(disp_vox, tolerance, most_steps, smallest_determinant)
        ctx.save_for_backward(disp_vox, inverse_vox)
        return inverse_vox

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        disp_vox, inverse_vox = ctx.saved_tensors
        kernels = geometry_of(disp_vox)
        at_solution = kernels.transposed_solve(disp_vox, inverse_vox, grad_output)
        return kernels.grad_volume(at_solution, inverse_vox, zeros=False), None, None, None


class GroupNormRelu(torch.autograd.Function):
    """relu(group_norm(volume)) for volumes in channels_last_3d memory, float or bfloat16; weight and bias float."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        out = _empty_channels_last(volume)
        mean, deviation = normalised_relu(volume, groups, weight, bias, epsilon, out)
        ctx.save_for_backward(volume, weight, bias, mean, deviation)
        ctx.groups = groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        volume, weight, bias, mean, deviation = ctx.saved_tensors
        v, g = _rows(volume), _rows(grad_output)
        scale, shift = deviation * weight, bias - mean * deviation * weight
        a, c = _as_rows(volume, weight, scale, shift)
        mean_g, mean_gv = _channel_means(volume, lambda sums: group_norm.gradient_sums(g, v, a, c, sums))
        mean_gn = deviation * (mean_gv - mean * mean_g)  # g times the normalised value
        count = volume[0, 0].numel()
        grad_weight, grad_bias = (count * part.sum(dim=0).to(weight) for part in (mean_gn, mean_g))
        projected, offset = _group_means((mean_gn * weight, mean_g * weight), ctx.groups)
        slope = -(deviation**2) * projected
        constant = -deviation * offset - slope * mean
        grad_volume = _empty_channels_last(volume)
        k, m = _as_rows(volume, weight, slope, constant)
        group_norm.grad_volume(g, v, a, c, k, m, _rows(grad_volume))
        return grad_volume, None, grad_weight, grad_bias, None


def normalised_relu(
    volume: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Put relu(group_norm(volume)) into `out`, which may be `volume` itself.

    Returns:
        The mean and the reciprocal standard deviation of each channel's group, (batch, channel) in float64.
    """
    v = _rows(volume)
    means = _channel_means(volume, lambda sums: group_norm.channel_sums(v, as_array(weight), sums))
    mean, mean_square = _group_means(means, groups)
    deviation = (mean_square - mean**2).clamp(min=0).add(epsilon).rsqrt()
    scale, shift = deviation * weight.detach(), bias.detach() - mean * deviation * weight.detach()
    a, c = _as_rows(volume, weight, scale, shift)
    group_norm.scaled_relu(v, a, c, _rows(out))
    return mean, deviation


def _rows(volume: Tensor) -> Array:
    """(batch, channel, X, Y, Z) as rows of voxels, (batch, X, Y, Z * channel)."""
    array = _channels_last(volume)
    return array.reshape(*array.shape[:3], -1)


def _as_rows(volume: Tensor, weight: Tensor, *per_channel: Tensor) -> Iterator[Array]:
    """Repeat numbers (batch, channel) along the rows of `_rows`, in the dtype to compute in."""
    return (as_array(numbers.to(weight.dtype).repeat(1, volume.shape[4])) for numbers in per_channel)


def _channel_means(volume: Tensor, kernel: Callable[[Array], None]) -> Tensor:
    """The means over all voxels, (2, batch, channel) in float64, of two sums that `kernel` makes plane by plane."""
    batch, channels, size_x = volume.shape[:3]
    sums = np.zeros((batch, size_x, 2, channels))
    kernel(sums)
    return torch.from_numpy(sums.sum(axis=1)).movedim(1, 0) / volume[0, 0].numel()


def _group_means(per_channel: Any, groups: int) -> list[Tensor]:
    """The means over the channels of each group, repeated for every channel of it."""
    means = []
    for numbers in per_channel:
        grouped = numbers.unflatten(1, (groups, -1))
        means.append(grouped.mean(dim=2, keepdim=True).expand_as(grouped).flatten(1))
    return means
