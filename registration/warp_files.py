"""`lumirkit warp` and `lumirkit export`: images, labels and points through a field, and the field for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.files import require_writable_file, write_text_atomically
from lumirkit.base.nifti import open_nifti, require_output
from lumirkit.base.outputs import require_apart
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.chain import files_of_chain, is_chain, read_steps, read_transforms
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import Deformation, read_between, read_deformation
from lumirkit.registration.field import require_convention
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.label_ids import may_be_rounded, narrowed
from lumirkit.registration.points import read_points
from lumirkit.registration.vector_rule import VectorRule
from lumirkit.registration.volume import read_header, write_volume
from lumirkit.registration.warp_arrays import carry_points, require_finite


@dataclass(frozen=True)
class Reading:
    """How the moving image is read through a field."""

    labels: bool = False
    """Read the nearest voxel and keep the integer type of the file, but for int64 and uint64; else read linearly and
    write float32."""
    fill: float = 0
    """The value beyond the moving image."""
    vectors: VectorRule = VectorRule.KEEP


def warp_file(
    transforms: Sequence[Path],
    moving: Path,
    out: Path,
    like: Path | None = None,
    reading: Reading | None = None,
    choice: HeaderChoice = NO_CHOICE,
) -> None:
    """Write the moving image on the fixed grid, or a label map of it; of a series every volume.

    Label maps whose type other tools do not read, int64 and uint64, are written as int32 or uint32.

    Args:
        transforms: a field, or a chain of fields and affines, which positions of the fixed image pass in this order.
        like: the fixed image, whose header the result gets; without it the result lies where the field says.
        choice: what the user says of headers that leave a choice.

    Raises:
        VolumeError, RequestError: a file cannot be used; nothing was written.
    """
    reading = reading or Reading()
    require_output(out)
    require_apart([out], [*files_of_chain(transforms), moving, like])
    images = FixedAndMoving(like, moving, choice)
    images.say_of_headers(say_to_stderr)
    deformation = read_transforms(transforms, images, say_to_stderr)
    if deformation.by_voxels and not deformation.fixed.same_as(deformation.moving):
        _require_same_axes(deformation, moving, like or transforms[0])
        say_to_stderr(
            f"warning: {moving}: its header places it elsewhere than {like or transforms[0]}, which counts voxels; the "
            "result is right only if both share their voxels"
        )
    warped = deformation.warp(moving, reading.labels, reading.fill, reading.vectors)
    if reading.labels:
        warped = _storable(warped, moving)
    header = open_nifti(moving).header
    intent = int(header["intent_code"]) if warped.ndim > 3 else 0
    write_volume(out, warped, deformation.fixed.affine, intent=intent, timed_as=header if warped.ndim > 3 else None)


def warp_points(
    transforms: Sequence[Path],
    points: Path,
    out: Path,
    moving: Path | None = None,
    like: Path | None = None,
    choice: HeaderChoice = NO_CHOICE,
) -> None:
    """Write where points of the fixed image lie in the moving one.

    Args:
        transforms: a field, or a chain of fields and affines, which the points pass in this order.
        points: a table (CSV) with the columns x, y, z in RAS mm, whose other columns are kept, or markups of Slicer,
            which are written as markups.
        moving: the moving image, for a field in voxels whose moving image has another header than the fixed one.
        like: the fixed image; without it the fixed grid lies where the field says.
        choice: what the user says of headers that leave a choice.

    Raises:
        VolumeError, RequestError: a file cannot be used, or a point is outside the fixed grid; nothing was written.
    """
    require_writable_file(out)
    require_apart([out], [*files_of_chain(transforms), points, moving, like])
    given = read_points(points)
    markups = given.suffix != ".csv"
    if markups != out.name.endswith((".fcsv", ".json")) or (markups and not out.name.endswith(given.suffix)):
        raise RequestError(
            f"{out}: expected a name that ends in {given.suffix}, as {points} is such a file. Rename it."
        )
    require_finite(given.ras_mm, points)
    if given.like_ants:
        say_to_stderr(
            f"warning: {points}: its columns x, y, z, t are those of ANTs, counting in LPS mm; they are read as RAS "
            "mm. Name them l, p, s if they are LPS."
        )
    images = FixedAndMoving(like, moving, choice)
    images.say_of_headers(say_to_stderr)
    there_mm = given.ras_mm
    if is_chain(transforms):
        for step in read_steps(transforms):
            there_mm = step.carry(there_mm, points)
    else:
        on_fixed, moving_grid = read_between(transforms[0], images)
        there_mm = carry_points(there_mm, on_fixed.disp_ras_mm(moving_grid), on_fixed.grid, points, transforms[0])
    write_text_atomically(out, given.text_with(there_mm))


def export_field(
    field: Path, fixed: Path, moving: Path, out: Path, convention: Convention, choice: HeaderChoice = NO_CHOICE
) -> None:
    """Write a field in another convention, for its two images.

    Args:
        choice: what the user says of headers that leave a choice.

    Raises:
        VolumeError, RequestError: a file cannot be used, or the convention cannot say it; nothing was written.
    """
    require_output(out)
    require_apart([out], [field, fixed, moving])
    images = FixedAndMoving(fixed, moving, choice)
    images.say_of_headers(say_to_stderr)
    deformation = read_deformation(field, images)
    require_convention(convention, deformation.fixed, deformation.moving, fixed)
    deformation.save(out, convention)


def _require_same_axes(deformation: Deformation, moving: Path, fixed: Path) -> None:
    """Check that the axes of an image run as those of the field in voxels that carries it.

    Raises:
        VolumeError: they run otherwise, by headers that say something.
    """
    grids = deformation.fixed, deformation.moving
    if any(grid.is_guess or np.array_equal(grid.affine, np.eye(4)) for grid in grids):
        return
    here, there = ("".join(nib.aff2axcodes(grid.affine)) for grid in grids)
    if here != there:
        raise VolumeError(
            f"{moving}: its axes run {there}, those of {fixed} {here}; expected the same, as the field counts voxels. "
            "Write the field by `lumirkit export` for the two images that it was made of, and use that."
        )


def _storable(ids: Shaped[ndarray, "x y z *rest"], moving: Path) -> Shaped[ndarray, "x y z *rest"]:
    """The warped ids in a type to write, with a warning where the file may have changed them already."""
    if may_be_rounded(ids, read_header(moving).dtype):
        say_to_stderr(
            f"warning: {moving}: holds ids beyond 16777216 as float32, which skips whole numbers there: ids may be "
            "others than were meant, and some may have become one"
        )
    return narrowed(ids, moving)
