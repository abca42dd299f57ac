"""Errors of skull stripping: too much is kept, too little, or pieces are missing. Labels stay, the anatomy is there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from scipy.special import ndtr

from lumirkit.eval.stress.balls import around
from lumirkit.eval.stress.scan import Scan

_FLUID_MM = 2.0  # of dark fluid around the brain, before other tissue begins
_PATCH_MM = 3.0  # smoothness of what lies beyond
_DARK_AND_BRIGHT = (5, 95)  # percentiles of the brain: fluid and bone, fat and marrow
_GRAIN = 0.1  # of the range between the two
_HOLES = 5


def dilated(scan: Scan, mm: float, generator: np.random.Generator) -> Scan:
    """Keep a rim around the brain: dark fluid first, then patches between dark bone and bright fat."""
    brain = scan.brain
    distance_mm = _distance_mm(~brain, scan)
    smooth = gaussian_filter(generator.standard_normal(brain.shape, dtype=np.float32), _PATCH_MM / scan.voxel_mm)
    share = ndtr(smooth / smooth.std()) * (distance_mm > _FLUID_MM)
    share += _GRAIN * generator.standard_normal(brain.shape, dtype=np.float32)
    dark, bright = np.percentile(scan.image.data[brain], _DARK_AND_BRIGHT)
    rim = np.clip(dark + (bright - dark) * share, dark / 2, bright)
    return scan.showing(np.where(brain, scan.image.data, rim), distance_mm <= mm)


def eroded(scan: Scan, mm: float, generator: np.random.Generator) -> Scan:
    """Take away the outermost layer of the brain."""
    return scan.showing(scan.image.data, _distance_mm(scan.brain, scan) > mm)


def holes(scan: Scan, radius_mm: float, generator: np.random.Generator) -> Scan:
    """Cut balls out of the brain, around five places on its surface."""
    brain = scan.brain
    surface = np.argwhere(brain & ~binary_erosion(brain))
    for centre in generator.choice(surface, _HOLES):
        box, distance_mm = around(centre, radius_mm, scan.voxel_mm, brain.shape)
        brain[box] &= distance_mm > radius_mm
    return scan.showing(scan.image.data, brain)


def _distance_mm(inside: Bool[ndarray, "x y z"], scan: Scan) -> Float64[ndarray, "x y z"]:
    """The distance of every voxel inside from the nearest one outside, which is 0 away from itself."""
    return distance_transform_edt(inside, sampling=scan.voxel_mm)
