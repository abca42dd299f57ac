"""The pointwise inverse of a field between two grids."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64
from nibabel.affines import apply_affine
from numpy import ndarray

from lumirkit.registration.grid import Grid, between, to_mm, to_voxels, voxels_of
from lumirkit.registration.inverse import invert_bent

_FIT_EVERY = 4  # voxels along each axis; twelve numbers need no more


def inverse_between(disp_vox: Float[ndarray, "x y z 3"], fixed: Grid, moving: Grid) -> Float64[ndarray, "i j k 3"]:
    """Invert a displacement between two grids.

    The affine that fits the field best is taken out first, so that what is inverted pointwise is small and stays on the
    fixed grid, wherever the moving one lies. Where the field does not fold, the inverse is at rounding level at the
    voxels of that grid, but for a few of millions where the field bends hardest; it is linear between them.

    Args:
        disp_vox: position in moving voxels minus position in fixed voxels, on the grid `fixed`.

    Returns:
        Position in fixed voxels minus position in moving voxels, on the grid `moving`; beyond where the field reaches
        it continues as at the border.
    """
    start = _fitted_affine(disp_vox, fixed, moving)
    aligned = Grid(moving.shape, np.linalg.inv(start) @ moving.affine)
    rest_vox = to_voxels(to_mm(disp_vox, fixed, aligned), fixed, fixed)
    inverse_vox = invert_bent(torch.from_numpy(np.moveaxis(rest_vox, -1, 0)[None].copy()))
    return between(np.moveaxis(inverse_vox[0].numpy(), 0, -1), fixed, aligned, fixed)


def _fitted_affine(disp_vox: Float[ndarray, "x y z 3"], fixed: Grid, moving: Grid) -> Float64[ndarray, "4 4"]:
    """Fit positions in the moving image to positions in the fixed one, both in RAS mm, by least squares."""
    every = (slice(None, None, _FIT_EVERY),) * 3
    at = voxels_of(fixed)[every].reshape(-1, 3)
    fixed_mm = apply_affine(fixed.affine, at)
    moving_mm = apply_affine(moving.affine, at + disp_vox[every].reshape(-1, 3))
    solution, *_ = np.linalg.lstsq(np.column_stack([fixed_mm, np.ones(len(at))]), moving_mm, rcond=None)
    return np.vstack([solution.T, [0, 0, 0, 1]])
