"""Smooth random volumes: cubic B-splines through random control points."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lumirkit.registration.bspline import spline_displacement
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.tensors import Volume5d

# Mean square of a spline of unit-variance control points: along an axis sum_k beta3(t - k)^2 is 151/315 on average.
_STANDARD_DEVIATION = (151 / 315) ** 1.5


def spline_noise(
    batch: int, channels: int, spacing_vox: int, shape: Sequence[int], generator: torch.Generator
) -> Volume5d:
    """Draw volumes (batch, channels, X, Y, Z) of mean 0 and standard deviation about 1, on the generator's device.

    Args:
        batch: the number of volumes.
        channels: the number of channels of each.
        spacing_vox: the distance between control points, which is about the size of the bumps.
        shape: (X, Y, Z) of the grid.
        generator: the source of the control points.
    """
    size = (batch, channels, *coarse_shape(shape, spacing_vox))
    control_points = torch.randn(size, generator=generator, device=generator.device)
    return spline_displacement(control_points / (spacing_vox * _STANDARD_DEVIATION), spacing_vox, shape)
