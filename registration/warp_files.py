"""`lumirkit warp` and `lumirkit export`: images, labels and points through a field, and the field for other tools."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int32
from nibabel.affines import apply_affine
from numpy import ndarray
from scipy.ndimage import map_coordinates

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable, write_text_atomically
from lumirkit.base.nifti import require_output
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import Field, read_field, require_convention, write_field
from lumirkit.registration.grid import Grid, voxels_of
from lumirkit.registration.volume import read_header, read_image, read_labels, write_volume

_AXES = ["x", "y", "z"]


def warp_file(field: Path, moving: Path, out: Path, like: Path | None = None, labels: bool = False) -> None:
    """Write the moving image on the fixed grid, or a label map of it.

    Args:
        like: the fixed image, whose header the result gets; without it the result lies where the field says.
        labels: by the nearest voxel and in the integer type of the file; else linearly and as float32.

    Raises:
        VolumeError, RequestError: a file cannot be used; nothing was written.
    """
    require_output(out)
    on_fixed, moving_grid = _field_of(field, moving, like)
    if on_fixed.convention is Convention.CHALLENGE and not on_fixed.grid.same_as(moving_grid):
        print(
            f"warning: {moving}: its header places it elsewhere than {like or field}, which counts voxels: headers "
            "play no part",
            file=sys.stderr,
        )
    values = read_labels(moving, single_volume=True) if labels else read_image(moving, single_volume=True).data
    stored = read_header(moving).dtype
    warped = warp(values, on_fixed.disp_vox(moving_grid), nearest=labels)
    write_volume(out, warped.astype(stored) if labels and stored.kind in "ui" else warped, on_fixed.grid.affine)


def warp(
    moving: Float[ndarray, "x y z"] | Int32[ndarray, "x y z"], disp_vox: Float[ndarray, "i j k 3"], nearest: bool
) -> Float[ndarray, "i j k"] | Int32[ndarray, "i j k"]:
    """warped(p) = moving(p + disp_vox(p)), linearly or at the nearest voxel; 0 where the moving grid ends.

    Args:
        disp_vox: position in moving voxels minus position in fixed voxels.
    """
    x, y, z, _ = disp_vox.shape
    at = voxels_of(Grid((x, y, z), np.eye(4))) + disp_vox
    return map_coordinates(moving, np.moveaxis(at, -1, 0), order=0 if nearest else 1, mode="grid-constant")


def warp_points(field: Path, points: Path, out: Path, moving: Path | None = None, like: Path | None = None) -> None:
    """Write where points of the fixed image lie in the moving one.

    Args:
        points: CSV with the columns x, y, z in RAS mm; all other columns are kept.
        moving: the moving image, for a field in voxels whose moving image has another header than the fixed one.
        like: the fixed image; without it the fixed grid lies where the field says.

    Raises:
        VolumeError, RequestError: a file cannot be used, or a point is outside the fixed grid; nothing was written.
    """
    require_writable(out.parent)
    table, fixed_mm = _read_points(points)
    on_fixed, moving_grid = _field_of(field, moving, like)
    at = apply_affine(on_fixed.grid.voxel_from_mm, fixed_mm)
    outside = ~((at >= -0.5) & (at < np.array(on_fixed.grid.shape) - 0.5)).all(axis=1)
    if outside.any():
        raise RequestError(
            f"{points}: {_rows(outside)} outside the fixed grid, {on_fixed.grid}, where {field} says nothing. "
            "Points are RAS mm of the fixed image; those of ITK and ANTs are LPS, x and y of the other sign."
        )
    disp_ras_mm = on_fixed.disp_ras_mm(moving_grid)
    there = [map_coordinates(disp_ras_mm[..., axis], at.T, order=1, mode="nearest") for axis in range(3)]
    table[_AXES] = fixed_mm + np.stack(there, axis=-1)
    write_text_atomically(out, table.to_csv(index=False, lineterminator="\n"))


def export_field(field: Path, fixed: Path, moving: Path, out: Path, convention: Convention) -> None:
    """Write a field in another convention, for its two images.

    Raises:
        VolumeError, RequestError: a file cannot be used, or the convention cannot say it; nothing was written.
    """
    require_output(out)
    on_fixed, moving_grid = _field_of(field, moving, fixed)
    require_convention(convention, on_fixed.grid, moving_grid, fixed)
    write_field(out, on_fixed.disp_vox(moving_grid), on_fixed.grid, moving_grid, convention)


def _field_of(path: Path, moving: Path | None, like: Path | None) -> tuple[Field, Grid]:
    """A field on its fixed grid, and the moving grid: where nothing says another, the fixed one."""
    field = read_field(path)
    if like is not None:
        field = field.on(Grid.from_file(like), like)
    if moving is None:
        return field, field.grid
    moving_grid = Grid.from_file(moving)
    field.require_moving(moving_grid, moving)
    return field, moving_grid


def _read_points(path: Path) -> tuple[pd.DataFrame, Float64[ndarray, "n 3"]]:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not a readable CSV file ({error}); expected the columns x, y, z.") from error
    if not set(_AXES) <= set(table.columns):
        raise RequestError(
            f"{path}: found the columns {', '.join(map(str, table.columns))}; expected x, y and z, RAS mm of the fixed "
            "image, named in the first line."
        )
    points_mm = table[_AXES].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    broken = ~np.isfinite(points_mm).all(axis=1)
    if broken.any():
        raise RequestError(f"{path}: {_rows(broken)} not three finite numbers x, y, z. Correct or remove them.")
    return table, points_mm


def _rows(which: ndarray) -> str:
    """The first of the rows of a table, as a person counts them, with a verb."""
    numbers = [str(row + 1) for row in np.flatnonzero(which)]
    named = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"point {named} is" if len(numbers) == 1 else f"points {named} are"
