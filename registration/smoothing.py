"""Gaussian smoothing as a separable operator."""

from __future__ import annotations

from functools import lru_cache

import torch

from registration.grid import Volume5d
from registration.separable import AxisOperator, apply_along_axes, clamped_operator


@lru_cache(maxsize=64)
def _gaussian_operator(size: int, sigma_vox: float, radius: int) -> AxisOperator:
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma_vox) ** 2)
    columns = torch.arange(size)[:, None] + offsets
    return clamped_operator((weights / weights.sum()).expand(size, -1), columns, size)


def gaussian_smooth(volume: Volume5d, sigma_vox: float, radius: int) -> Volume5d:
    """Smooth every channel with a normalised Gaussian of standard deviation `sigma_vox`, cut off at `radius` voxels."""
    return apply_along_axes(volume, [_gaussian_operator(size, sigma_vox, radius) for size in volume.shape[2:]])
