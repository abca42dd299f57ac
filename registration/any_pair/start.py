"""The start of a registration: the images as their headers place them, or roughly aligned first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from nibabel.affines import apply_affine, from_matvec
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.extras import require_extra
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.any_pair.frame import brain_box_mm, brain_centre_mm
from lumirkit.registration.grid import Grid
from lumirkit.registration.itk_affine import read_itk_affine
from lumirkit.registration.volume import Volume

Affine = Float64[ndarray, "4 4"]
"""An affine that takes positions in the fixed image to positions in the moving one, both in RAS mm."""

_ALIGNED = 0.9  # Dice of the brains; those of two heads in one frame have more
_WORTH_A_SHIFT = 0.03  # what Dice must gain by it; between heads in one frame it gains 0.001 at most
_GREATEST_CHANGE = 4  # of volume, between heads


_EACH = 2  # one voxel of so many along every axis tells how brains overlap


def require_start(affine: bool, as_is: bool) -> None:
    """Check, before anything is read, that images can be brought together as asked.

    Raises:
        RequestError: both ways are asked for, or the affine start is and ANTs is not installed.
    """
    if affine:
        if as_is:
            raise RequestError("--affine with --as-is: expected one of them; images taken as they are stay as they are")
        require_extra("--affine", "baselines", "antspyx")


def overlapping_start(fixed: Volume, moving: Volume, say: Callable[[str], None]) -> Affine:
    """The identity, or where the brains overlap better so, the shift between their centres of mass.

    Args:
        say: is told of the shift, and of brains that overlap poorly after all, as turned ones do.

    Raises:
        VolumeError: an image has no brain of a possible size.
    """
    for image in (fixed, moving):
        brain_box_mm(image)
    shift_mm = brain_centre_mm(moving) - brain_centre_mm(fixed)
    placed, shifted = (_dice(fixed, moving, by_mm) for by_mm in (np.zeros(3), shift_mm))
    shift = shifted > placed + _WORTH_A_SHIFT
    if shift:
        say(
            f"the brains overlap by a Dice of {placed:.2f} as the headers place them, and of {shifted:.2f} with one "
            f"centre of mass: the moving one starts shifted {', '.join(f'{-mm:.1f}' for mm in shift_mm)} mm (RAS)"
        )
    found = shifted if shift else placed
    if found < _ALIGNED:
        say(
            f"warning: {fixed.name} and {moving.name}: the brains overlap by a Dice of {found:.2f} at the start; "
            f"aligned ones have {_ALIGNED} or more. If one of them is turned or of another size, use --affine."
        )
    return from_matvec(np.eye(3), shift_mm) if shift else np.eye(4)


def overlap(fixed: Volume, moving: Volume) -> float:
    """The Dice overlap of two brains as their headers place them, by volume.

    Raises:
        VolumeError: an image has no brain of a possible size.
    """
    for image in (fixed, moving):
        brain_box_mm(image)
    return _dice(fixed, moving, np.zeros(3))


def _dice(fixed: Volume, moving: Volume, shift_mm: Float64[ndarray, " 3"]) -> float:
    """The Dice overlap of the voxels above 0, by volume, with the fixed image shifted."""
    some = np.argwhere(fixed.data[::_EACH, ::_EACH, ::_EACH] > 0) * _EACH
    grid = Grid.from_image(moving)
    voxel_from_voxel = grid.voxel_from_mm @ from_matvec(np.eye(3), shift_mm) @ fixed.affine
    nearest = np.rint(apply_affine(voxel_from_voxel, some)).astype(int)
    inside = ((nearest >= 0) & (nearest < grid.shape)).all(axis=1)
    share = np.count_nonzero(moving.data[tuple(nearest[inside].T)] > 0) / max(1, len(some))
    n_fixed, n_moving = (np.count_nonzero(image.data > 0) for image in (fixed, moving))
    voxel_ratio = abs(np.linalg.det(moving.affine[:3, :3]) / np.linalg.det(fixed.affine[:3, :3]))
    return float(2 * share * n_fixed / (n_fixed + n_moving * voxel_ratio))


def affine_start(fixed: Volume, moving: Volume, say: Callable[[str], None], rigid: bool = False) -> Affine:
    """The affine that ANTs finds by mutual information, started with centre of mass on centre of mass.

    Args:
        say: is told how much it scales volumes.
        rigid: allow turns and shifts alone.

    Raises:
        VolumeError: ANTs gave up, or found what cannot be between two heads.
    """
    import ants

    images = f"{fixed.name} and {moving.name}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = ants.registration(
                *(to_ants(image.data, image.affine) for image in (fixed, moving)),
                type_of_transform="Rigid" if rigid else "Affine",
                outprefix=f"{folder}/affine_",
                random_seed=1,
            )
            (file,) = result["fwdtransforms"]
            start = read_itk_affine(Path(file))
        except (RuntimeError, RequestError) as error:
            raise VolumeError(f"{images}: ANTs found no affine ({error}). Look at both images.") from error
    change = float(np.linalg.det(start[:3, :3]))
    if not 1 / _GREATEST_CHANGE <= change <= _GREATEST_CHANGE:
        raise VolumeError(f"{images}: ANTs found an affine that scales volumes by {change:.3g}. Look at both images.")
    say(f"affine start by ANTs: volumes scaled by {change:.2f}")
    return start
