"""Registering any two brains that are in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumirkit.base.errors import VolumeError
from lumirkit.registration.any_pair.likeness import likeness
from lumirkit.registration.any_pair.pair_in_frame import FramedPair, framed
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.refine import Taken
from lumirkit.registration.volume import Volume


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
    return register_framed(predictor, framed(fixed, moving, say, affine=affine, as_is=as_is), say, choice)


def register_framed(
    predictor: Predictor,
    pair: FramedPair,
    say: Callable[[str], None],
    choice: HeaderChoice = NO_CHOICE,
    tell_likeness: bool = False,
) -> Deformation:
    """Register two images that are in the networks' frame; the field lies on the grids that they came on.

    Args:
        say: is told what each stage of a refinement gained as it ends, and what went otherwise than asked for.
        choice: what the user says of headers, for what the result will carry.
        tell_likeness: let `say` be told how alike the images were before and are now.

    Raises:
        VolumeError: the network has no answer for the images.
    """

    def tell(taken: Taken) -> None:
        course = taken.course
        change = f"loss {course.loss_before:.4f} -> {course.loss_after:.4f} in {course.steps} steps"
        say(f"refined on a grid of {taken.stage.grid_vox} image voxels a voxel: {change}")

    found = predictor.both_directions(pair.fixed, pair.moving, tell)
    for remark in predictor.warnings:
        say(f"warning: {remark}")
    grids = pair.grids
    disp_vox = grids.on_fixed(found.forward_vox)
    if not np.isfinite(disp_vox).all():
        raise VolumeError(
            f"{pair.fixed.name} and {pair.moving.name}: the network gave NaN or inf; check the weights and both images"
        )
    if tell_likeness:
        before, after = likeness(pair.fixed, pair.moving, found.forward_vox)
        say(f"likeness of the two images (1: equal): {before:.2f} before, {after:.2f} after the registration")
    inverse = found.inverse
    return Deformation(
        disp_vox, grids.fixed, grids.moving, pair.by_voxels, lambda: grids.on_moving(inverse.to_voxels()), choice
    )
