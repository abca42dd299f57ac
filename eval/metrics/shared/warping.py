"""Label maps carried by a displacement field, as the LUMIR evaluator does it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int32
from numpy import ndarray

from lumirkit.base.compiled import compiled


def warp_labels(moving: Int32[ndarray, "x y z"], disp_vox: Float[ndarray, "i j k 3"]) -> Int32[ndarray, "i j k"]:
    """Nearest-neighbour pull-back: warped(p) = moving(p + disp_vox(p)), 0 outside the moving map.

    Equal in every voxel to `scipy.ndimage.map_coordinates(order=0)` with its default `mode="constant", cval=0` on
    float64 coordinates: a half goes to the higher voxel, and whatever lies outside [0, size - 1] is outside.

    Args:
        moving: label map on the moving grid.
        disp_vox: displacement in voxels on the fixed grid, in array-axis order; float32 or float64.
    """
    # NIfTI files hold x fastest: in Fortran order nothing read from a file is copied, and the kernel runs along memory.
    disp = np.asfortranarray(disp_vox)
    warped = np.empty(disp.shape[:3], dtype=np.int32, order="F")
    _warp(np.asfortranarray(moving, dtype=np.int32).T, disp.T, warped.T)
    return warped


@compiled
def _warp(
    moving: Int32[ndarray, "z y x"], disp_vox: Float[ndarray, "3 k j i"], warped: Int32[ndarray, "k j i"]
) -> None:
    size_z, size_y, size_x = moving.shape
    depth, height, width = warped.shape
    for k in range(depth):
        for j in range(height):
            for i in range(width):
                x = i + np.float64(disp_vox[0, k, j, i])
                y = j + np.float64(disp_vox[1, k, j, i])
                z = k + np.float64(disp_vox[2, k, j, i])
                label = 0
                if 0 <= x <= size_x - 1 and 0 <= y <= size_y - 1 and 0 <= z <= size_z - 1:
                    label = moving[math.floor(z + 0.5), math.floor(y + 0.5), math.floor(x + 0.5)]
                warped[k, j, i] = label
