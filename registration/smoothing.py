"""Gaussian smoothing as a separable operator."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float64
from torch import Tensor

from lumirkit.registration.separable import AxisOperator, apply_along_axes, clamped_operator
from lumirkit.registration.tensors import Volume5d


def gaussian_weights(sigma_vox: float, radius: int) -> Float64[Tensor, " taps"]:
    """Sample a Gaussian at the 2 * radius + 1 voxels around its centre; the samples add up to 1."""
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / sigma_vox) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=64)
def _gaussian_operator(size: int, sigma_vox: float, radius: int) -> AxisOperator:
    columns = torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)
    return clamped_operator(gaussian_weights(sigma_vox, radius).expand(size, -1), columns, size)


def gaussian_smooth(volume: Volume5d, sigma_vox: float, radius: int) -> Volume5d:
    """Smooth every channel with a normalised Gaussian of standard deviation `sigma_vox`, cut off at `radius` voxels."""
    return apply_along_axes(volume, [_gaussian_operator(size, sigma_vox, radius) for size in volume.shape[2:]])
