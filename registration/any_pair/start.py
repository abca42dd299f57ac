"""The start of a registration: the images as their headers place them, or roughly aligned first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64
from nibabel.affines import apply_affine, from_matvec
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import require_extra
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.any_pair.frame import brain_points_mm
from lumirkit.registration.grid import LPS_FROM_RAS, Grid
from lumirkit.registration.volume import Volume

Affine = Float64[ndarray, "4 4"]
"""An affine that takes positions in the fixed image to positions in the moving one, both in RAS mm."""

_ALIGNED = 0.9  # Dice of the brains; those of two heads in one frame have more
_WORTH_A_SHIFT = 0.03  # what Dice must gain by it; between heads in one frame it gains 0.001 at most
_GREATEST_CHANGE = 4  # of volume, between heads


def require_ants() -> None:
    """Check that the affine start can be made.

    Raises:
        RequestError: its package is not installed.
    """
    require_extra("--affine", "baselines", "antspyx")


def overlapping_start(fixed: Volume, moving: Volume, say: Callable[[str], None]) -> Affine:
    """The identity, or where the brains overlap better so, the shift between their centres of mass.

    Args:
        say: is told of the shift, and of brains that overlap poorly after all, as turned ones do.

    Raises:
        VolumeError: an image has no brain of a possible size.
    """
    fixed_mm, moving_mm = brain_points_mm(fixed), brain_points_mm(moving)
    shift_mm = moving_mm.mean(axis=0) - fixed_mm.mean(axis=0)
    placed, shifted = (_dice(fixed, at_mm, moving, len(moving_mm)) for at_mm in (fixed_mm, fixed_mm + shift_mm))
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
    return _dice(fixed, brain_points_mm(fixed), moving, len(brain_points_mm(moving)))


def _dice(fixed: Volume, fixed_mm: Float64[ndarray, "n 3"], moving: Volume, n_moving: int) -> float:
    """The Dice overlap of the voxels above 0, by volume."""
    grid = Grid.from_image(moving)
    nearest = np.rint(apply_affine(grid.voxel_from_mm, fixed_mm)).astype(int)
    inside = ((nearest >= 0) & (nearest < grid.shape)).all(axis=1)
    both = np.count_nonzero(moving.data[tuple(nearest[inside].T)] > 0)
    voxel_ratio = abs(np.linalg.det(moving.affine[:3, :3]) / np.linalg.det(fixed.affine[:3, :3]))
    return float(2 * both / (len(fixed_mm) + n_moving * voxel_ratio))


def affine_start(fixed: Volume, moving: Volume, say: Callable[[str], None]) -> Affine:
    """The affine that ANTs finds by mutual information, started with centre of mass on centre of mass.

    Raises:
        VolumeError: ANTs gave up, or found what cannot be between two heads.
    """
    import ants

    images = f"{fixed.name} and {moving.name}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = ants.registration(
                *(to_ants(image.data, image.affine) for image in (fixed, moving)),
                type_of_transform="Affine",
                outprefix=f"{folder}/affine_",
                random_seed=1,
            )
            (file,) = result["fwdtransforms"]
            transform = ants.read_transform(file)
        except RuntimeError as error:
            raise VolumeError(f"{images}: ANTs found no affine ({error}). Look at both images.") from error
    numbers, centre = np.asarray(transform.parameters), np.asarray(transform.fixed_parameters)
    linear = numbers[:9].reshape(3, 3)
    in_lps = from_matvec(linear, numbers[9:] + centre - linear @ centre)
    change = float(np.linalg.det(linear))
    if not 1 / _GREATEST_CHANGE <= change <= _GREATEST_CHANGE:
        raise VolumeError(f"{images}: ANTs found an affine that scales volumes by {change:.3g}. Look at both images.")
    say(f"affine start by ANTs: volumes scaled by {change:.2f}")
    return LPS_FROM_RAS @ in_lps @ LPS_FROM_RAS
