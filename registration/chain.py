"""Several transforms, one after the other, as antsApplyTransforms takes them: fields and affines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64
from nibabel.affines import apply_affine
from numpy import ndarray
from scipy.ndimage import map_coordinates

from lumirkit.base.errors import RequestError
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import Deformation, deformation_of
from lumirkit.registration.field import Field, read_field
from lumirkit.registration.fixed_and_moving import NO_IMAGES, FixedAndMoving
from lumirkit.registration.grid import Grid, voxels_of
from lumirkit.registration.itk_affine import SUFFIXES as AFFINE_SUFFIXES
from lumirkit.registration.itk_affine import read_itk_affine
from lumirkit.registration.itk_hdf5 import SUFFIXES as HDF5_SUFFIXES
from lumirkit.registration.itk_hdf5 import read_itk_hdf5
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
    return [step for path in paths for step in _read_file(path)]


def read_transforms(
    paths: Sequence[Path], images: FixedAndMoving = NO_IMAGES, say: Callable[[str], None] = say_to_stderr
) -> Deformation:
    """Read one field, or a chain, as one deformation between two images.

    A single field of ITK may lie on another grid than the fixed image, as the fields of a chain may.

    Args:
        say: is told of such a field.

    Raises:
        VolumeError, RequestError: a file cannot be used, or does not belong to the images.
    """
    if is_chain(paths):
        return read_chain(paths, images)
    field = read_field(paths[0])
    if not _lies_elsewhere(field, images):
        return deformation_of(field, images)
    say(
        f"{field.path}: lies on another grid than {images.fixed_name}: it is read linearly, and beyond its own grid it "
        "moves nothing"
    )
    return _composed([_step_of(field)], images, field.path)


def _lies_elsewhere(field: Field, images: FixedAndMoving) -> bool:
    """Whether a field of ITK lies on another grid than the fixed image."""
    if images.fixed_grid is None or field.convention is not Convention.ITK:
        return False
    return not field.grid.same_as(images.fixed_grid.seen_by_itk)


def read_chain(paths: Sequence[Path], images: FixedAndMoving = NO_IMAGES) -> Deformation:
    """Read transforms, the first of which positions of the fixed image pass first, as one deformation.

    Every field lies where its own header says, fields in voxels too; beyond its grid it moves nothing.

    Raises:
        VolumeError, RequestError: a file cannot be used, or there is no fixed grid.
    """
    return _composed(read_steps(paths), images, paths[0])


def _composed(steps: Sequence[Affine | Step], images: FixedAndMoving, name: Path) -> Deformation:
    """Transforms that follow each other as one deformation; messages call the first of them `name`."""
    first = steps[0]
    if images.fixed_grid is not None:
        grid = images.fixed_grid
        _require_place(first, grid, images.fixed_name)
    elif isinstance(first, Step):
        grid = first.grid
    else:
        raise RequestError(
            f"{name}: begins with an affine, which has no grid; expected the fixed image beside it. Add --like."
        )
    moving_grid = images.moving_grid or grid
    if images.moving_grid is not None:
        _require_place(steps[-1], moving_grid, images.moving_name)
    at_mm = apply_affine(grid.affine, voxels_of(grid))
    for step in steps:
        at_mm = step(at_mm)
    in_voxels = all(isinstance(step, Step) and step.counts_voxels and step.grid.same_as(grid) for step in steps)
    disp_vox = apply_affine(moving_grid.voxel_from_mm, at_mm) - voxels_of(grid)
    by_voxels = in_voxels and images.moving is None
    return Deformation(disp_vox, grid, moving_grid, by_voxels, choice=images.choice)


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


def is_chain(paths: Sequence[Path]) -> bool:
    """Whether transforms must be read as a chain: all but one field, in a NIfTI file that is named without brackets."""
    file, _ = _unbracketed(paths[0])
    return len(paths) > 1 or file != paths[0] or file.suffix in (*AFFINE_SUFFIXES, *HDF5_SUFFIXES)


def files_of_chain(paths: Sequence[Path]) -> list[Path]:
    """The files that transforms are read from."""
    return [_unbracketed(path)[0] for path in paths]


def _read_file(path: Path) -> list[Affine | Step]:
    """The transforms of one file, in the order in which positions pass them."""
    file, inverted = _unbracketed(path)
    steps = _steps_of(file)
    if not inverted:
        return steps
    affines = [step for step in steps[::-1] if isinstance(step, Affine)]
    if len(affines) < len(steps):
        raise RequestError(
            f"{path}: asks for the inverse of a field; expected that of an affine. Use `lumirkit invert`."
        )
    return [Affine(np.linalg.inv(affine.matrix)) for affine in affines]


def _steps_of(file: Path) -> list[Affine | Step]:
    if file.suffix in AFFINE_SUFFIXES:
        return [Affine(read_itk_affine(file))]
    if file.suffix in HDF5_SUFFIXES:
        return [
            Step(file, *found, counts_voxels=False) if isinstance(found, tuple) else Affine(found)
            for found in read_itk_hdf5(file)
        ]
    return [_step_of(read_field(file))]


def _step_of(field: Field) -> Step:
    return Step(field.path, field.grid, field.disp_ras_mm(field.grid), field.convention is Convention.CHALLENGE)


def _unbracketed(path: Path) -> tuple[Path, bool]:
    """The file of a transform as ANTs names them, and whether its inverse is meant."""
    bracketed = re.fullmatch(r"\[\s*(.+?)\s*,\s*([01])\s*\]", str(path))
    return (Path(bracketed[1]), bracketed[2] == "1") if bracketed else (path, False)
