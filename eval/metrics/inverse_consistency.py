"""Inverse consistency: the error of two fields of opposite direction as each other's inverse."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import map_coordinates


def inverse_consistency_error(
    disp_vox: Float[ndarray, "x y z 3"], inverse_vox: Float[ndarray, "x y z 3"], mask: Bool[ndarray, "x y z"]
) -> float:
    """Mean length, in voxels, of u(p) + v(p + u(p)) over the mask; 0 for a field and its exact inverse.

    v is interpolated linearly, and continued beyond its grid by its values at the border.

    Args:
        disp_vox: u, on the fixed grid, in voxels and array-axis order.
        inverse_vox: v, the field of the pair with fixed and moving image exchanged, on the moving grid.
        mask: where to measure on the fixed grid; at least one voxel.
    """
    points = np.argwhere(mask)
    displacement = disp_vox[mask].astype(np.float64)
    there = (points + displacement).T
    back = (map_coordinates(inverse_vox[..., axis], there, order=1, mode="nearest") for axis in range(3))
    remaining = displacement + np.stack([component.astype(np.float64) for component in back], axis=1)
    return float(np.linalg.norm(remaining, axis=1).mean())
