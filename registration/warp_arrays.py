"""Images, labels and points through a displacement field, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped
from nibabel.affines import apply_affine
from numpy import ndarray
from scipy.ndimage import map_coordinates

from lumirkit.base.errors import RequestError
from lumirkit.registration.grid import Grid, voxels_of


def warp(
    moving: Shaped[ndarray, "x y z *rest"], disp_vox: Float[ndarray, "i j k 3"], nearest: bool, fill: float = 0
) -> Shaped[ndarray, "i j k *rest"]:
    """warped(p) = moving(p + disp_vox(p)), linearly or at the nearest voxel, every volume of a series alike.

    Args:
        moving: an image, series or label map; the result has its dtype.
        disp_vox: position in moving voxels minus position in fixed voxels.
        fill: what lies beyond the moving grid; of a label map, an id that its dtype holds.
    """
    x, y, z, _ = disp_vox.shape
    at = np.moveaxis(voxels_of(Grid((x, y, z), np.eye(4))) + disp_vox, -1, 0)
    if nearest and moving.dtype.itemsize == 8:
        return _nearest_of_any(moving, at, fill)
    warped = np.empty((x, y, z, *moving.shape[3:]), moving.dtype)
    for which in np.ndindex(*moving.shape[3:]):
        volume = moving[..., *which]
        order = 0 if nearest else 1
        warped[..., *which] = map_coordinates(volume, at, order=order, mode="grid-constant", cval=fill)
    return warped


def _nearest_of_any(
    moving: Shaped[ndarray, "x y z *rest"], at: Float64[ndarray, "3 i j k"], fill: float
) -> Shaped[ndarray, "i j k *rest"]:
    """Read the nearest voxel by its number: ids of eight bytes may be too large for scipy, which reads over float64."""
    numbers = np.arange(np.prod(moving.shape[:3])).reshape(moving.shape[:3])
    chosen = map_coordinates(numbers, at, order=0, mode="grid-constant", cval=-1)
    warped = moving.reshape(-1, *moving.shape[3:])[chosen]
    warped[chosen < 0] = fill
    return warped


def carry_points(
    fixed_mm: Float[ndarray, "n 3"],
    disp_ras_mm: Float[ndarray, "x y z 3"],
    fixed: Grid,
    name: Path | str,
    field_name: Path | str,
) -> Float64[ndarray, "n 3"]:
    """Carry points of the fixed image to where they lie in the moving one; both are RAS mm.

    Args:
        disp_ras_mm: moving position minus fixed position at every voxel of the grid `fixed`; read linearly.
        name: what messages call the points.
        field_name: what messages call the field.

    Raises:
        RequestError: a point is not finite, or outside the fixed grid.
    """
    require_finite(fixed_mm, name)
    at = apply_affine(fixed.voxel_from_mm, fixed_mm)
    outside = ~((at >= -0.5) & (at < np.array(fixed.shape) - 0.5)).all(axis=1)
    if outside.any():
        raise RequestError(
            f"{name}: {_rows(outside)} outside the fixed grid, {fixed}, where {field_name} says nothing. "
            "Points are RAS mm of the fixed image; those of ITK and ANTs are LPS, x and y of the other sign."
        )
    there = [map_coordinates(disp_ras_mm[..., axis], at.T, order=1, mode="nearest") for axis in range(3)]
    return fixed_mm + np.stack(there, axis=-1)


def require_finite(points_mm: Float[ndarray, "n 3"], name: Path | str) -> None:
    """Check that all points have three finite coordinates.

    Raises:
        RequestError: one has not.
    """
    broken = ~np.isfinite(points_mm).all(axis=1)
    if broken.any():
        raise RequestError(f"{name}: {_rows(broken)} not three finite numbers x, y, z. Correct or remove them.")


def _rows(which: Bool[ndarray, " n"]) -> str:
    """Name the first of the chosen points as a person counts them, with a verb."""
    numbers = [str(row + 1) for row in np.flatnonzero(which)]
    named = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"point {named} is" if len(numbers) == 1 else f"points {named} are"
