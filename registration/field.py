"""Displacement fields in files, in the challenge's convention or in that of ITK and ANTs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.nifti import open_nifti
from lumirkit.registration.convention import Convention
from lumirkit.registration.foreign_fields import (
    as_itk,
    is_foreign,
    is_of_spm,
    require_displacements,
    require_known,
    warn_of_fsl,
)
from lumirkit.registration.grid import Grid, flip_lps, to_mm, to_voxels
from lumirkit.registration.volume import (
    DISPLACEMENT_INTENT,
    read_displacement,
    read_vectors,
    write_displacement,
    write_vectors,
)

_ROUNDING_VOX = 0.01  # what may be lost of a displacement where it is written


@dataclass(frozen=True)
class Field:
    """A field as a file holds it: `values` (X, Y, Z, 3) on the fixed `grid`, in the file's convention."""

    path: Path
    convention: Convention
    grid: Grid
    values: Float[ndarray, "x y z 3"]

    def on(self, fixed: Grid, origin: Path | str) -> Field:
        """Put the field on the grid of a fixed image.

        The challenge's convention counts voxels, so its fields fit any image of their shape; ITK's have a place in the
        world.

        Args:
            origin: the file of the fixed image.

        Raises:
            VolumeError: the field does not belong to that grid.
        """
        expected = fixed if self.convention is Convention.CHALLENGE else fixed.seen_by_itk
        by_shape = self.convention is Convention.CHALLENGE and fixed.shape == self.grid.shape
        if not (by_shape or expected.same_as(self.grid)):
            raise VolumeError(
                f"{self.path}: found a field of {self.grid}; expected {expected}, the grid of {origin}. "
                "Give the fixed image that the field was made for."
            )
        return replace(self, grid=fixed)

    def require_moving(self, moving: Grid, origin: Path | str) -> None:
        """Check that an image can be the moving one.

        Raises:
            VolumeError: it has another shape than a field in voxels.
        """
        if self.convention is Convention.CHALLENGE and moving.shape != self.grid.shape:
            raise VolumeError(
                f"{origin}: found shape {moving.shape}; expected {self.grid.shape} as {self.path}, which counts "
                "displacements in voxels of one grid. Give an image of that grid, or write the field by `lumirkit "
                "export` for the two images that it was made of, and use that."
            )

    def disp_vox(self, moving: Grid) -> Float[ndarray, "x y z 3"]:
        """The position in moving voxels minus the position in fixed voxels, at every fixed voxel."""
        if self.convention is Convention.CHALLENGE:
            return self.values
        return to_voxels(flip_lps(self.values), self.grid.seen_by_itk, moving.seen_by_itk)

    def disp_ras_mm(self, moving: Grid) -> Float64[ndarray, "x y z 3"]:
        """The moving position minus the fixed position, in RAS mm, at every fixed voxel."""
        if self.convention is Convention.ITK and self.grid.itk_affine is None and moving.itk_affine is None:
            return flip_lps(self.values)
        return to_mm(self.disp_vox(moving), self.grid, moving)


def read_field(path: Path) -> Field:
    """Read a field of either convention; the number of axes tells which.

    Deformations of SPM and NiftyReg, which their headers name, are read as fields of ITK.

    Raises:
        VolumeError: the file is missing or damaged, is a field of neither convention, or holds NaN or inf.
    """
    header = open_nifti(path).header
    require_known(path, header)
    shape = tuple(header.get_data_shape())
    if len(shape) == 5:
        grid = Grid.from_file(path) if is_foreign(header) else Grid.from_file(path).seen_by_itk
        vectors = read_vectors(path, (DISPLACEMENT_INTENT,) if is_of_spm(header) else ())
        return Field(path, Convention.ITK, grid, as_itk(path, header, vectors, grid))
    if len(shape) != 4 or 3 not in (shape[0], shape[-1]):
        raise VolumeError(
            f"{path}: found shape {shape}; expected a field, (X, Y, Z, 3) in voxels or (X, Y, Z, 1, 3) in ITK's "
            "LPS mm. Give what `lumirkit register` or ANTs wrote as the warp."
        )
    x, y, z = shape[:3] if shape[-1] == 3 else shape[1:]
    values, grid = read_displacement(path, (x, y, z)), replace(Grid.from_file(path), shape=(x, y, z))
    warn_of_fsl(path, header)
    require_displacements(path, values, grid)
    return Field(path, Convention.CHALLENGE, grid, values)


def require_convention(convention: Convention, fixed: Grid, moving: Grid, origin: Path | str) -> None:
    """Check that a field between two grids can be written in a convention.

    Args:
        origin: the file that the message is about, that of the fixed image.

    Raises:
        VolumeError: it is in voxels of one grid and there are two, or the axes are too oblique for ITK, or a header
            leaves ITK a guess.
    """
    if convention is Convention.CHALLENGE and not fixed.same_as(moving):
        raise VolumeError(
            f"{origin}: lies on {fixed}, the moving image on {moving}, or elsewhere; expected one grid, whose voxels "
            "the challenge's convention counts. Use --format itk, or resample one image to the other."
        )
    if convention is Convention.ITK and (fixed.is_guess or moving.is_guess):
        raise VolumeError(
            f"{origin if fixed.is_guess else 'the moving image'}: its header says neither where it lies nor which side "
            "is left (the codes of qform and sform are 0), so a field in ITK's convention would be a guess. Say how "
            "its axes run with --orientation, such as RAS, or write it into the header."
        )
    if convention is Convention.ITK and not fixed.seen_by_itk.is_orthogonal:
        raise VolumeError(
            f"{origin}: the axes of its affine are not at right angles, which ITK's convention cannot say. Resample "
            "the image to a grid with such axes."
        )


def write_field(
    path: Path, disp_vox: Float[ndarray, "x y z 3"], fixed: Grid, moving: Grid, convention: Convention
) -> None:
    """Write a displacement between two grids in a convention that `require_convention` has found possible.

    Raises:
        VolumeError: the grids lie so far apart that numbers of single precision cannot say the way between them.
    """
    if convention is Convention.CHALLENGE:
        write_displacement(path, disp_vox.astype("float32"), fixed.affine)
        return
    there, here = moving.seen_by_itk, fixed.seen_by_itk
    disp_mm = flip_lps(to_mm(disp_vox, here, there))
    with np.errstate(over="ignore", invalid="ignore"):
        lost_mm = float(np.abs(disp_mm - disp_mm.astype(np.float32)).max())
    if not lost_mm <= _ROUNDING_VOX * there.spacing_mm.min():
        raise VolumeError(
            f"{path}: the field reaches {np.abs(disp_mm).max():.4g} mm to voxels of {there.spacing_mm.min():.4g} mm, "
            "which its float32 numbers cannot tell apart; expected images nearer to each other. Repair the origin or "
            "the spacing in their headers."
        )
    write_vectors(path, disp_mm, here.affine)
