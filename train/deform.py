"""Random diffeomorphic warps of the training images: more brains than there are scans.

Whole images are warped, what the loss sees as well as what the network sees. A warp is computed on a grid of 4 voxels,
which its smoothness allows, and is made from the numbers of its sample alone; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from lumirkit.registration.exponential import exponential
from lumirkit.registration.resolution import coarse_shape, refine_displacement
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.train.draw import Draw
from lumirkit.train.settings import Ranges

_STRIDE = 4


class DeformationRanges(Ranges):
    """Ranges that the warp of each image is drawn from, uniformly; lengths in voxels of the images."""

    std_vox: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 0.0)
    """Standard deviation of the velocity."""
    scale_vox: tuple[PositiveFloat, PositiveFloat] = (32.0, 64.0)
    """Distance between the velocity's control points; below five standard deviations fields begin to fold."""

    @property
    def is_none(self) -> bool:
        """Whether these ranges leave images as they are."""
        return self.std_vox[1] == 0


def draw_deformation(
    ranges: DeformationRanges, seed: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
) -> DisplacementVox:
    """The warp (1, 3, X, Y, Z) in voxels of the images of `shape` (X, Y, Z) that belongs to some numbers."""
    draw = Draw(seed, coarse_shape(shape, _STRIDE), torch.device(device))
    std_coarse_vox, scale_coarse_vox = (
        (low / _STRIDE, high / _STRIDE) for low, high in (ranges.std_vox, ranges.scale_vox)
    )
    return refine_displacement(exponential(draw.velocity(std_coarse_vox, scale_coarse_vox)), _STRIDE, shape)
