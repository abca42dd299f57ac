"""Registering any two brains that are in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.registration.any_pair.pair_in_frame import framed, framed_as_is
from lumirkit.registration.any_pair.start import require_ants
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import Volume


def require_start(affine: bool, as_is: bool) -> None:
    """Check, before anything is read, that images can be brought together as asked.

    Raises:
        RequestError: both ways are asked for, or the affine start is and ANTs is not installed.
    """
    if affine:
        if as_is:
            raise RequestError("--affine with --as-is: expected one of them; images taken as they are stay as they are")
        require_ants()


def register_images(
    predictor: Predictor,
    fixed: Volume,
    moving: Volume,
    affine: bool,
    as_is: bool,
    say: Callable[[str], None],
    choice: HeaderChoice = NO_CHOICE,
) -> Deformation:
    """Register two images of any orientation, spacing and intensities.

    Args:
        affine: start from the affine that ANTs finds, rather than from the headers.
        as_is: take the arrays as they are: both are in the networks' frame, whatever their headers say.
        say: is told what was done to the images, and what may be wrong with them.
        choice: what the user says of headers, for what the result will carry.

    Raises:
        VolumeError: an image cannot be used, or the network has no answer for it.
    """
    pair = framed_as_is(fixed, moving) if as_is else framed(fixed, moving, affine, say)
    found = predictor.both_directions(pair.fixed, pair.moving)
    grids = pair.grids
    disp_vox = grids.on_fixed(found.forward_vox)
    if not np.isfinite(disp_vox).all():
        raise VolumeError(
            f"{fixed.name} and {moving.name}: the network gave NaN or inf; check the weights and both images"
        )
    inverse = found.inverse
    fixed_grid, moving_grid = Grid.from_image(fixed), Grid.from_image(moving)
    return Deformation(disp_vox, fixed_grid, moving_grid, as_is, lambda: grids.on_moving(inverse.to_voxels()), choice)
