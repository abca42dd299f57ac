"""Displacements in ITK's LPS mm as displacements in voxels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from lumirkit.registration.grid import LPS_FROM_RAS


def voxels_from_lps(
    disp_lps_mm: Float64[ndarray, "x y z 3"], affine: Float64[ndarray, "4 4"]
) -> Float32[ndarray, "x y z 3"]:
    """Turn displacements from LPS mm into voxels of the grid that both images share, in array-axis order.

    A point x = A p of voxel p goes to x + d(x), so the displacement in voxels is the linear part of A, inverted, times
    d.

    Args:
        affine: NIfTI affine A of the fixed and the moving grid.
    """
    voxel_from_lps = np.linalg.inv((LPS_FROM_RAS @ affine)[:3, :3])
    return (disp_lps_mm @ voxel_from_lps.T).astype(np.float32)
