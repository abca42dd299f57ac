"""Random diffeomorphic warps of the training images: more brains than there are scans.

Whole images are warped, what the loss sees as well as what the network sees. A warp is computed on a grid of 4 voxels,
which its smoothness allows, and is made from the numbers of its sample alone; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from registration.exponential import exponential
from registration.grid import DisplacementVox, coarse_shape, refine_displacement
from registration.spline_noise import spline_noise
from train.settings import Settings

_STRIDE = 4


class Deformation(Settings):
    """Ranges that the warp of each image is drawn from, uniformly; lengths in voxels of the images."""

    std_vox: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 0.0)
    """Standard deviation of the velocity."""
    scale_vox: tuple[PositiveFloat, PositiveFloat] = (32.0, 64.0)
    """Distance between the velocity's control points; below five standard deviations fields begin to fold."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in self:
            if low > high:
                raise ValueError(f"{name}: found [{low}, {high}]; expected the smaller number first")
        return self

    @property
    def is_none(self) -> bool:
        """Whether images stay as they are."""
        return self.std_vox[1] == 0


def draw_deformation(
    ranges: Deformation, seed: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
) -> DisplacementVox:
    """The warp (1, 3, X, Y, Z) in voxels of the images of `shape` (X, Y, Z) that belongs to some numbers."""
    of_numbers, of_volumes = np.random.SeedSequence(seed).spawn(2)
    numbers = np.random.default_rng(of_numbers)
    volumes = torch.Generator(device).manual_seed(int(of_volumes.generate_state(1, np.uint64)[0] >> 1))
    std, scale = (numbers.uniform(*each) / _STRIDE for each in (ranges.std_vox, ranges.scale_vox))
    velocity = std * spline_noise(1, 3, max(1, round(scale)), coarse_shape(shape, _STRIDE), volumes)
    return refine_displacement(exponential(velocity), _STRIDE, shape)
