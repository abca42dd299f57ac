"""Label maps carried by a displacement field, as the LUMIR evaluator does it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int32
from numpy import ndarray
from scipy.ndimage import map_coordinates

_SLAB = 16  # fixed voxels along x whose coordinates are held at a time


def warp_labels(moving: Int32[ndarray, "x y z"], disp_vox: Float64[ndarray, "i j k 3"]) -> Int32[ndarray, "i j k"]:
    """Nearest-neighbour pull-back: warped(p) = moving(p + disp_vox(p)), 0 outside the moving map.

    Args:
        moving: label map on the moving grid.
        disp_vox: displacement in voxels on the fixed grid, in array-axis order.
    """
    shape = disp_vox.shape[:3]
    warped = np.empty(shape, dtype=np.int32)
    for start in range(0, shape[0], _SLAB):
        slab = disp_vox[start : start + _SLAB]
        coordinates = np.moveaxis(slab, -1, 0) + np.indices(slab.shape[:3])
        coordinates[0] += start
        map_coordinates(moving, coordinates, output=warped[start : start + _SLAB], order=0)
    return warped
