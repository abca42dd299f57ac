"""Voxels in a ball."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray


def around(
    centre: Int[ndarray, " 3"], radius_mm: float, voxel_mm: Float64[ndarray, " 3"], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], Float64[ndarray, "i j k"]]:
    """The part of a grid that holds the ball around a voxel, and the distance in mm of its voxels from that one."""
    reach = np.ceil(radius_mm / voxel_mm).astype(int)
    starts, stops = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
    box = tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))
    x, y, z = ((axis - at) * mm for axis, at, mm in zip(np.ogrid[box], centre, voxel_mm, strict=True))
    return box, np.sqrt(x**2 + y**2 + z**2)
