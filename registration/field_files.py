"""`lumirkit compose`, `invert` and `jacobian`: fields made of fields, and the map of their determinants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lumirkit.base.nifti import require_output
from lumirkit.base.outputs import require_apart
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.chain import files_of_chain, read_chain
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import Deformation, read_deformation
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.jacobian import SMALLEST_DETERMINANT, log_determinant
from lumirkit.registration.volume import write_volume


def compose_fields(
    transforms: Sequence[Path], out: Path, like: Path | None = None, choice: HeaderChoice = NO_CHOICE
) -> None:
    """Write one field that does what a chain of fields and affines does.

    Args:
        transforms: what positions of the fixed image pass, in this order.
        like: the fixed image, whose grid the field gets; without it that of the first transform.
        choice: what the user says of headers that leave a choice.

    Raises:
        VolumeError, RequestError: a file cannot be used; nothing was written.
    """
    require_output(out)
    require_apart([out], [*files_of_chain(transforms), like])
    _save(read_chain(transforms, _images(like, None, choice)), out)


def invert_field(
    field: Path, out: Path, moving: Path | None = None, like: Path | None = None, choice: HeaderChoice = NO_CHOICE
) -> None:
    """Write the field of the opposite direction, in the same convention, on the moving grid.

    Raises:
        VolumeError, RequestError: a file cannot be used; nothing was written.
    """
    require_output(out)
    require_apart([out], [field, moving, like])
    deformation = read_deformation(field, _images(like, moving, choice))
    _tell_of_folds(field, deformation.jacobian(), "where it has no inverse; the result is a guess there")
    _save(deformation.inverse, out)


def jacobian_map(
    field: Path, out: Path, log: bool = False, like: Path | None = None, choice: HeaderChoice = NO_CHOICE
) -> None:
    """Write the determinant at every fixed voxel as float32, or its natural logarithm.

    Raises:
        VolumeError, RequestError: a file cannot be used; nothing was written.
    """
    require_output(out)
    require_apart([out], [field, like])
    deformation = read_deformation(field, _images(like, None, choice))
    determinants = deformation.jacobian()
    if log:
        _tell_of_folds(field, determinants, f"whose logarithm is taken of {SMALLEST_DETERMINANT:g}")
    values = log_determinant(determinants) if log else determinants
    write_volume(out, values.astype(np.float32), deformation.fixed.affine)


def _images(fixed: Path | None, moving: Path | None, choice: HeaderChoice) -> FixedAndMoving:
    """The images of a field, with a warning where their headers leave a choice."""
    images = FixedAndMoving(fixed, moving, choice)
    images.say_of_headers(say_to_stderr)
    return images


def _save(deformation: Deformation, out: Path) -> None:
    deformation.save(out, Convention.CHALLENGE if deformation.by_voxels else Convention.ITK)


def _tell_of_folds(field: Path, determinants: np.ndarray, what: str) -> None:
    """Warn of voxels where a field folds."""
    folded = int((determinants <= 0).sum())
    if folded:
        say_to_stderr(f"warning: {field}: folds at {folded} voxels, {what}")
