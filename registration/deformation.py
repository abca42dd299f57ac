"""A displacement field between two images as an object: it warps, inverts, measures and saves itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, reduce
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from nibabel.spatialimages import SpatialImage
from numpy import ndarray
from numpy.typing import ArrayLike

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.nifti import require_output
from lumirkit.registration.carried import as_carried
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import Field, read_field, require_convention, write_field
from lumirkit.registration.finite_strain import turn_back
from lumirkit.registration.fixed_and_moving import NO_IMAGES, FixedAndMoving
from lumirkit.registration.grid import Grid, flip_lps, to_mm, to_voxels
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.image_like import ImageLike, grid_of, name_of
from lumirkit.registration.inverse_on_grids import inverse_between
from lumirkit.registration.jacobian import jacobian_determinants
from lumirkit.registration.vector_rule import VectorRule
from lumirkit.registration.warp_arrays import carry_points, warp

_DETERMINANT_SUM = 12  # of the ten at the identity: eight are 1 and two are 2


class Deformation:
    """A map from every voxel of a fixed image to its place in a moving one, from a registration or a file.

    Attributes:
        disp_vox: (X, Y, Z, 3), position in moving voxels minus position in fixed voxels, at every fixed voxel.
        fixed: the grid of the fixed image.
        moving: the grid of the moving image.
        by_voxels: whether voxels alone count and headers play no part, as in the challenge's convention.
        choice: what the user says of headers that leave a choice, which holds for all that is carried.
    """

    def __init__(
        self,
        disp_vox: Float[ndarray, "x y z 3"],
        fixed: Grid,
        moving: Grid,
        by_voxels: bool = False,
        find_inverse: Callable[[], Float[ndarray, "i j k 3"]] | None = None,
        choice: HeaderChoice = NO_CHOICE,
    ) -> None:
        """Hold a field.

        Args:
            find_inverse: gives the field of the opposite direction on the moving grid, when it is asked for; without
                it that is the pointwise inverse.
        """
        self.disp_vox, self.fixed, self.moving, self.by_voxels = disp_vox, fixed, moving, by_voxels
        self.choice = choice
        self._find_inverse = find_inverse or (lambda: inverse_between(disp_vox, fixed, moving))

    @property
    def disp_ras_mm(self) -> Float64[ndarray, "x y z 3"]:
        """Moving position minus fixed position in RAS mm, at every fixed voxel."""
        return to_mm(self.disp_vox, self.fixed, self.moving)

    @cached_property
    def inverse(self) -> Deformation:
        """The deformation of the opposite direction: where every voxel of the moving image lies in the fixed one.

        After a registration it is the network's own field of that direction, which registering the exchanged images
        gives too; of a file it is the pointwise inverse. Both are linear between voxels, so going forth and back
        misses the start: on phantom brains by 0.05 voxels in the mean and by 0.2 at most, and by more where the field
        leaves the other grid. A U-Net that predicts displacements gives fields that are only roughly inverse.
        """
        inverse = self._find_inverse()
        return Deformation(inverse, self.moving, self.fixed, self.by_voxels, lambda: self.disp_vox, self.choice)

    def warp(
        self,
        image: ImageLike,
        labels: bool = False,
        fill: float = 0,
        vectors: VectorRule | str = VectorRule.KEEP,
    ) -> Shaped[ndarray, "x y z *rest"]:
        """Carry the moving image, or what lies in its space, onto the fixed grid; every volume of a series alike.

        Args:
            image: a file or a nibabel image, on any grid of that space; or an array on the grid `moving`.
            labels: read the nearest voxel and keep the integer type; else read linearly and return float32.
            fill: the value beyond the image, 0 in most.
            vectors: "rotate" for a vector image whose vectors turn with the tissue: (X, Y, Z, 3) with components along
                right, anterior and superior, or (X, Y, Z, 1, 3) with ITK's, left, posterior and superior.

        Raises:
            VolumeError: the image cannot be used, or has another shape than the moving grid where that counts.
            RequestError: it is no image at all, the label type cannot hold the fill value, or there are no vectors.
        """
        values = as_carried(image, "moving", labels)
        name = name_of(image, "moving")
        turning = _require_rule(vectors) is VectorRule.ROTATE
        if labels:
            _require_fill(fill, values.dtype, name)
        if turning:
            self._require_vectors(values.shape, labels, name)
        warped = warp(values, self._disp_vox_to(image, values.shape[:3]), labels, fill)
        return self._turned(warped) if turning else warped

    def _turned(self, vectors: Float[ndarray, "x y z *rest"]) -> Float[ndarray, "x y z *rest"]:
        """Vectors that were read at every fixed voxel, with the directions that they have in the fixed image."""
        if vectors.ndim == 4:
            return turn_back(vectors, self.disp_ras_mm, self.fixed)
        along_ras = flip_lps(vectors[..., 0, :]).astype(vectors.dtype)
        turned = flip_lps(turn_back(along_ras, self.disp_ras_mm, self.fixed))
        return turned[..., None, :].astype(vectors.dtype)

    def _require_vectors(self, shape: tuple[int, ...], labels: bool, name: str) -> None:
        """Check that an image holds vectors that can be turned."""
        if labels or shape[3:] not in ((3,), (1, 3)):
            found = "a label map" if labels else f"shape {shape}"
            raise RequestError(
                f"{name}: found {found}; expected vectors to rotate, of shape (X, Y, Z, 3) or (X, Y, Z, 1, 3). "
                "Leave --vectors rotate out."
            )
        if min(self.fixed.shape) < 2:
            raise RequestError(f"{name}: found a fixed grid of {self.fixed.shape}; expected 2 voxels an axis or more.")

    def warp_points(self, points_mm: ArrayLike) -> Float64[ndarray, "n 3"]:
        """Carry points of the fixed image to where they lie in the moving one, both in RAS mm.

        Raises:
            RequestError: these are no points, or one is outside the fixed grid.
        """
        points = np.asarray(points_mm, np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise RequestError(f"the points: found an array of shape {points.shape}; expected (n, 3), RAS mm.")
        return carry_points(points, self.disp_ras_mm, self.fixed, "the points", "the field")

    def jacobian(self) -> Float64[ndarray, "x y z"]:
        """The determinant of the map at every fixed voxel: how many times larger its surroundings become.

        It is the mean over the ten tetrahedra by which folding is scored (`registration/jacobian.py`), each weighted
        by its volume, of the map in mm. Voxels on the border of the grid have the value of their inner neighbour.

        Raises:
            VolumeError: an axis has fewer than 3 voxels.
        """
        if min(self.fixed.shape) < 3:
            raise VolumeError(f"the field: found a grid of {self.fixed.shape}; expected at least 3 voxels an axis.")
        in_fixed_voxels = to_voxels(self.disp_ras_mm, self.fixed, self.fixed)
        determinants = jacobian_determinants(torch.from_numpy(np.moveaxis(in_fixed_voxels, -1, 0)[None].copy()))
        total = reduce(torch.add, determinants)
        return np.pad(total[0].numpy() / _DETERMINANT_SUM, 1, mode="edge")

    def save(self, path: Path | str, format: Convention | str | None = None) -> None:
        """Write the field to a NIfTI file.

        Args:
            format: "challenge", in voxels of the one grid that both images share, or "itk", in LPS mm for ITK and
                ANTs; None for the challenge's where it can say the field, else ITK's.

        Raises:
            VolumeError: the convention cannot say the field, or the name is not that of a NIfTI file.
            RequestError: there is no such convention, or the folder cannot be written to.
        """
        path = Path(path)
        require_output(path)
        shares_grid = self.by_voxels or self.fixed.same_as(self.moving)
        convention = _chosen_convention(format, shares_grid)
        require_convention(convention, self.fixed, self.fixed if shares_grid else self.moving, "the field")
        write_field(path, self.disp_vox, self.fixed, self.moving, convention)

    def _disp_vox_to(self, image: ImageLike, shape: tuple[int, ...]) -> Float[ndarray, "x y z 3"]:
        """The field in voxels of an image in the moving space."""
        if isinstance(image, Path | str | SpatialImage) and not self.by_voxels:
            grid = grid_of(image, "moving", self.choice)
            return self.disp_vox if grid.same_as(self.moving) else to_voxels(self.disp_ras_mm, self.fixed, grid)
        if shape != self.moving.shape:
            raise VolumeError(
                f"{name_of(image, 'moving')}: found shape {shape}; expected {self.moving.shape}, the moving grid, "
                "whose voxels the field counts. Resample the image to that grid."
            )
        return self.disp_vox

    def __repr__(self) -> str:
        return f"Deformation(fixed: {self.fixed}; moving: {self.moving})"


def read_deformation(path: Path, images: FixedAndMoving = NO_IMAGES) -> Deformation:
    """Read a field of either convention as the deformation between two images.

    Raises:
        VolumeError: the file cannot be used, or does not belong to the images.
    """
    return deformation_of(read_field(path), images)


def deformation_of(field: Field, images: FixedAndMoving) -> Deformation:
    """A field as the deformation between two images.

    Raises:
        VolumeError: an image cannot be used, or the field does not belong to it.
    """
    on_fixed, moving_grid = _between(field, images)
    by_voxels = on_fixed.convention is Convention.CHALLENGE
    return Deformation(on_fixed.disp_vox(moving_grid), on_fixed.grid, moving_grid, by_voxels, choice=images.choice)


def read_between(path: Path, images: FixedAndMoving) -> tuple[Field, Grid]:
    """Read a field on its fixed grid, and the moving grid.

    Raises:
        VolumeError: the file cannot be used, or does not belong to the images.
    """
    return _between(read_field(path), images)


def _between(field: Field, images: FixedAndMoving) -> tuple[Field, Grid]:
    if images.fixed_grid is not None:
        field = field.on(images.fixed_grid, images.fixed_name)
    if images.moving_grid is None:
        return field, field.grid
    field.require_moving(images.moving_grid, images.moving_name)
    return field, images.moving_grid


def _require_rule(vectors: VectorRule | str) -> VectorRule:
    if vectors not in list(VectorRule):
        raise RequestError(f"vectors: found {vectors!r}; expected one of {', '.join(VectorRule)}.")
    return VectorRule(vectors)


def _require_fill(fill: float, dtype: np.dtype, name: str) -> None:
    """Check that the type of a label map holds the value beyond it."""
    limits = np.iinfo(dtype)
    if not (limits.min <= fill <= limits.max and fill == round(fill)):
        raise RequestError(
            f"{name}: found the fill value {fill:g}; expected a whole number from {limits.min} to {limits.max}, "
            f"which its type {dtype} holds. Choose another --fill."
        )


def _chosen_convention(format: Convention | str | None, shares_grid: bool) -> Convention:
    if format is None:
        return Convention.CHALLENGE if shares_grid else Convention.ITK
    if format not in list(Convention):
        raise RequestError(f"format: found {format!r}; expected one of {', '.join(Convention)}.")
    return Convention(format)
