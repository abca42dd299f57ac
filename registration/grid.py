"""Grids in the world, and displacements between them: in voxels, in RAS mm, and in ITK's LPS mm.

World coordinates are NIfTI's, millimetres along right, anterior, superior (RAS); ITK and ANTs count left and posterior
instead (LPS). A displacement between two grids is `disp_vox`, the position in moving voxels minus the position in fixed
voxels, so that warped(p) = moving(p + disp_vox(p)) holds for any two arrays; where both share one grid it is the
challenge's field. In the world it is `disp_ras_mm`, the moving position minus the fixed one. Everything is float64.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float64, Int, Num
from nibabel.affines import apply_affine, voxel_sizes
from numpy import ndarray
from scipy.ndimage import affine_transform

from lumirkit.base.errors import VolumeError
from lumirkit.registration.header import NO_CHOICE, HeaderChoice, in_one_place, is_square
from lumirkit.registration.volume import Volume, read_header, read_place

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""The matrix (4, 4) that takes NIfTI's world axes to ITK's, and back."""

_NO_VOLUME = 1e-6  # a voxel's volume over the product of its spacings; flatter voxels have no useful inverse


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of `shape` (X, Y, Z) whose `affine` (4, 4) takes voxels to RAS mm."""

    shape: tuple[int, int, int]
    affine: Float64[ndarray, "4 4"]
    itk_affine: Float64[ndarray, "4 4"] | None = None
    """Where ITK and ANTs see the voxels, if the header has them see it elsewhere; see `registration/header.py`."""
    is_guess: bool = False
    """Whether the affine is a guess, because the header says nothing."""

    @classmethod
    def from_image(cls, image: Volume) -> Self:
        """Take the grid of an image.

        Raises:
            VolumeError: its affine has no inverse.
        """
        return cls(image.shape, _checked(image.affine, image.name), image.itk_affine, image.is_guess)

    @classmethod
    def from_file(cls, path: Path, choice: HeaderChoice = NO_CHOICE) -> Self:
        """Take the grid of a NIfTI file from its header alone; axes beyond the third do not matter.

        Args:
            choice: what the user says of a header that leaves a choice.

        Raises:
            VolumeError: the file is missing or not NIfTI, or its affine has no inverse.
        """
        x, y, z = (*read_header(path).shape, 1, 1)[:3]
        place = read_place(path, choice)
        return cls((x, y, z), _checked(place.affine, path), place.itk_affine, place.is_guess)

    @property
    def spacing_mm(self) -> Float64[ndarray, " 3"]:
        """The lengths of a voxel's edges along X, Y, Z."""
        return voxel_sizes(self.affine)

    @property
    def voxel_from_mm(self) -> Float64[ndarray, "4 4"]:
        """The inverse of the affine: RAS mm to voxels."""
        return np.linalg.inv(self.affine)

    @property
    def is_orthogonal(self) -> bool:
        """Whether the axes are at right angles, as ITK expects."""
        return is_square(self.affine)

    @property
    def seen_by_itk(self) -> Grid:
        """The same voxels where ITK and ANTs see them."""
        return self if self.itk_affine is None else Grid(self.shape, self.itk_affine)

    @property
    def canonical(self) -> Grid:
        """The same voxels with axes reversed and exchanged so that they run as nearly as possible along RAS."""
        axes = nib.io_orientation(self.affine)
        x, y, z = (self.shape[axis] for axis in np.argsort(axes[:, 0]))
        return Grid((x, y, z), self.affine @ nib.orientations.inv_ornt_aff(axes, self.shape))

    def same_as(self, other: Grid) -> bool:
        """Whether two grids have the same voxels at the same places."""
        return self.shape == other.shape and in_one_place(self.shape, self.affine, other.affine)

    def __str__(self) -> str:
        size, spacing = ("x".join(f"{n:.4g}" for n in numbers) for numbers in (self.shape, self.spacing_mm))
        origin = ", ".join(f"{mm:.4g}" for mm in self.affine[:3, 3])
        axes = "".join(nib.aff2axcodes(self.affine))
        return f"{size} voxels of {spacing} mm, {axes}, first voxel at {origin} mm"


@np.errstate(all="ignore")
def _checked(affine: Float[ndarray, "4 4"] | Int[ndarray, "4 4"], name: Path | str) -> Float64[ndarray, "4 4"]:
    volume = np.abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0.0
    if not volume > _NO_VOLUME * voxel_sizes(affine).prod():
        raise VolumeError(
            f"{name}: found the affine {affine[:3].tolist()}, which has no inverse; expected one that takes voxels "
            "to mm. Repair the sform or qform of the header."
        )
    return affine.astype(np.float64)


def itk_geometry(
    affine: Num[ndarray, "4 4"],
) -> tuple[Float64[ndarray, " 3"], Float64[ndarray, " 3"], Float64[ndarray, "3 3"]]:
    """Take a NIfTI affine, voxels to RAS mm, apart as images of ITK and ANTs hold it.

    Returns:
        The origin in LPS mm, the spacing in mm, and the direction of each axis as a column.
    """
    lps_from_voxel = LPS_FROM_RAS @ affine
    spacing = np.linalg.norm(lps_from_voxel[:3, :3], axis=0)
    return lps_from_voxel[:3, 3], spacing, lps_from_voxel[:3, :3] / spacing


def flip_lps(vectors: Float[ndarray, "*n 3"]) -> Float64[ndarray, "*n 3"]:
    """Turn vectors or points from RAS mm to LPS mm, or the other way round."""
    return vectors * np.diag(LPS_FROM_RAS)[:3]


def voxels_of(grid: Grid) -> Float64[ndarray, "x y z 3"]:
    """The index of every voxel."""
    return np.moveaxis(np.indices(grid.shape, dtype=np.float64), 0, -1)


def to_mm(disp_vox: Float[ndarray, "x y z 3"], fixed: Grid, moving: Grid) -> Float64[ndarray, "x y z 3"]:
    """Turn `disp_vox` between two grids into `disp_ras_mm`."""
    at = voxels_of(fixed)
    return apply_affine(moving.affine, at + disp_vox) - apply_affine(fixed.affine, at)


def to_voxels(disp_ras_mm: Float[ndarray, "x y z 3"], fixed: Grid, moving: Grid) -> Float64[ndarray, "x y z 3"]:
    """Turn `disp_ras_mm` into `disp_vox` between two grids."""
    at = voxels_of(fixed)
    return apply_affine(moving.voxel_from_mm, apply_affine(fixed.affine, at) + disp_ras_mm) - at


def between(disp_vox: Float[ndarray, "i j k 3"], frame: Grid, fixed: Grid, moving: Grid) -> Float64[ndarray, "x y z 3"]:
    """Read a field of one grid, `frame`, as the displacement from a second grid to a third.

    Args:
        disp_vox: displacements in voxels of `frame`; linear between its voxels, and beyond them as at its border.
        frame: the grid that the field is known on.
        fixed: the grid of the result.
        moving: the grid that the result points into.

    Returns:
        The same motion in the world as `disp_vox` between `fixed` and `moving`.
    """
    frame_from_fixed = frame.voxel_from_mm @ fixed.affine
    read = partial(affine_transform, matrix=frame_from_fixed, output_shape=fixed.shape, order=1, mode="nearest")
    with ThreadPoolExecutor() as threads:
        components = list(threads.map(read, np.moveaxis(disp_vox.astype(np.float64), -1, 0)))
    at = voxels_of(fixed)
    in_frame = apply_affine(frame_from_fixed, at) + np.stack(components, axis=-1)
    return apply_affine(moving.voxel_from_mm @ frame.affine, in_frame) - at
