"""Several transforms, one after the other, as antsApplyTransforms takes them: fields and affines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64
from nibabel.affines import apply_affine
from numpy import ndarray
from scipy.ndimage import map_coordinates

from lumirkit.base.errors import RequestError
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.field import read_field
from lumirkit.registration.grid import Grid, voxels_of
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.image_like import PlacedImage, grid_of, name_of
from lumirkit.registration.itk_affine import SUFFIXES, read_itk_affine
from lumirkit.registration.warp_arrays import carry_points


@dataclass(frozen=True)
class Affine:
    """A matrix (4, 4) that takes positions to positions, both in RAS mm."""

    matrix: Float64[ndarray, "4 4"]

    def __call__(self, at_mm: Float64[ndarray, "*n 3"]) -> Float64[ndarray, "*n 3"]:
        """Where positions go."""
        return apply_affine(self.matrix, at_mm)

    def carry(self, points_mm: Float64[ndarray, "n 3"], name: Path) -> Float64[ndarray, "n 3"]:
        """Where points go."""
        return self(points_mm)


@dataclass(frozen=True)
class Step:
    """A field on its own grid, in RAS mm; it moves nothing beyond that grid, as in ITK."""

    path: Path
    grid: Grid
    disp_ras_mm: Float[ndarray, "x y z 3"]
    counts_voxels: bool

    def __call__(self, at_mm: Float64[ndarray, "*n 3"]) -> Float64[ndarray, "*n 3"]:
        """Where positions go."""
        at = apply_affine(self.grid.voxel_from_mm, at_mm)
        inside = ((at >= -0.5) & (at <= np.array(self.grid.shape) - 0.5)).all(axis=-1)
        read = [
            map_coordinates(self.disp_ras_mm[..., axis], np.moveaxis(at, -1, 0), order=1, mode="nearest")
            for axis in range(3)
        ]
        return at_mm + np.where(inside[..., None], np.stack(read, axis=-1), 0)

    def carry(self, points_mm: Float64[ndarray, "n 3"], name: Path) -> Float64[ndarray, "n 3"]:
        """Where points go, which must lie on the grid."""
        return carry_points(points_mm, self.disp_ras_mm, self.grid, name, self.path)


def read_steps(paths: Sequence[Path]) -> list[Affine | Step]:
    """Read the transforms of a chain; `[affine.mat,1]` is the inverse of an affine.

    Raises:
        VolumeError, RequestError: a file cannot be used.
    """
    return [_read_step(path) for path in paths]


def read_chain(
    paths: Sequence[Path],
    fixed: PlacedImage | None = None,
    moving: PlacedImage | None = None,
    choice: HeaderChoice = NO_CHOICE,
) -> Deformation:
    """Read transforms, the first of which positions of the fixed image pass first, as one deformation.

    Every field lies where its own header says, fields in voxels too; beyond its grid it moves nothing.

    Args:
        fixed: the fixed image; without it the fixed grid is that of the first transform, a field.
        moving: the moving image; without it the moving grid is the fixed one.
        choice: what the user says of headers that leave a choice.

    Raises:
        VolumeError, RequestError: a file cannot be used, or there is no fixed grid.
    """
    steps = read_steps(paths)
    first = steps[0]
    if fixed is not None:
        grid = grid_of(fixed, "fixed", choice)
    elif isinstance(first, Step):
        grid = first.grid
    else:
        raise RequestError(
            f"{paths[0]}: is an affine, which has no grid; expected the fixed image beside it. Add --like."
        )
    moving_grid = grid if moving is None else grid_of(moving, "moving", choice)
    if fixed is not None:
        _require_place(first, grid, name_of(fixed, "fixed"))
    if moving is not None:
        _require_place(steps[-1], moving_grid, name_of(moving, "moving"))
    at_mm = apply_affine(grid.affine, voxels_of(grid))
    for step in steps:
        at_mm = step(at_mm)
    in_voxels = all(isinstance(step, Step) and step.counts_voxels and step.grid.same_as(grid) for step in steps)
    disp_vox = apply_affine(moving_grid.voxel_from_mm, at_mm) - voxels_of(grid)
    return Deformation(disp_vox, grid, moving_grid, in_voxels and moving is None)


def _require_place(step: Affine | Step, grid: Grid, name: str) -> None:
    """Check that a field in voxels lies where the image of its shape does, as headers count in a chain.

    Raises:
        RequestError: it lies elsewhere.
    """
    if isinstance(step, Step) and step.counts_voxels and step.grid.shape == grid.shape and not step.grid.same_as(grid):
        raise RequestError(
            f"{step.path}: lies on {step.grid}, {name} on {grid}, or elsewhere; expected one place, as headers count "
            "where transforms follow each other. Write the field by `lumirkit export` for its images first."
        )


def is_affine(path: Path) -> bool:
    """Whether a path names an affine and no field."""
    return _unbracketed(path)[0].suffix in SUFFIXES


def _read_step(path: Path) -> Affine | Step:
    file, inverted = _unbracketed(path)
    if is_affine(path):
        matrix = read_itk_affine(file)
        return Affine(np.linalg.inv(matrix) if inverted else matrix)
    if inverted:
        raise RequestError(
            f"{path}: asks for the inverse of a field; expected that of an affine. Use `lumirkit invert`."
        )
    field = read_field(file)
    return Step(file, field.grid, field.disp_ras_mm(field.grid), field.convention is Convention.CHALLENGE)


def _unbracketed(path: Path) -> tuple[Path, bool]:
    """The file of a transform as ANTs names them, and whether its inverse is meant."""
    bracketed = re.fullmatch(r"\[\s*(.+?)\s*,\s*([01])\s*\]", str(path))
    return (Path(bracketed[1]), bracketed[2] == "1") if bracketed else (path, False)
