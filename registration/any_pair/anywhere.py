"""Registering images that lie anywhere: carried to the networks' frame, and the field carried back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lumirkit.registration.any_pair.frame import BRIGHTEST, frame_of, normalised, resampled
from lumirkit.registration.any_pair.start import affine_start, overlapping_start
from lumirkit.registration.cohort import RegisterPair
from lumirkit.registration.grid import Grid, between
from lumirkit.registration.volume import Volume

_LEAST_BACKGROUND = 0.05  # share of the voxels; of a skull-stripped head in its box it is more than half


def register_anywhere(
    register_pair: RegisterPair, fixed: Volume, moving: Volume, affine: bool, say: Callable[[str], None]
) -> Float[ndarray, "x y z 3"]:
    """Register two images of any orientation, spacing and intensities.

    Images that are in the networks' frame already, both on one grid, go to `register_pair` as they are.

    Args:
        affine: start from the affine that ANTs finds, rather than from the headers.
        say: is told what was done to the images, and what may be wrong with them.

    Returns:
        The position in moving voxels minus the position in fixed voxels, at every voxel of the fixed image: the start
        and the field of `register_pair` in one.

    Raises:
        VolumeError: an image cannot be used.
    """
    fixed_grid, moving_grid = Grid.from_image(fixed), Grid.from_image(moving)
    for image in (fixed, moving):
        _warn_of_skull(image, say)
    bright_fixed, bright_moving = normalised(fixed), normalised(moving)
    start = (affine_start if affine else overlapping_start)(bright_fixed, bright_moving, say)
    aligned_grid = replace(moving_grid, affine=np.linalg.inv(start) @ moving_grid.affine)
    aligned = replace(bright_moving, affine=aligned_grid.affine)  # the moving image as if it lay where the fixed one is
    frame = frame_of(bright_fixed, aligned)
    for image, bright, grid in ((fixed, bright_fixed, fixed_grid), (moving, bright_moving, moving_grid)):
        if bright is not image or not grid.same_as(frame):
            low, high = float(image.data.min()), float(image.data.max())
            say(f"{image.name}: {grid}, {low:.4g}…{high:.4g}; registered as {frame}, 0…{BRIGHTEST}")
    disp_vox = register_pair(resampled(bright_fixed, frame), resampled(aligned, frame))
    if frame.same_as(fixed_grid) and frame.same_as(aligned_grid):
        return disp_vox
    return between(disp_vox, frame, fixed_grid, aligned_grid)


def _warn_of_skull(image: Volume, say: Callable[[str], None]) -> None:
    background = float(np.mean(image.data <= 0))
    if background < _LEAST_BACKGROUND:
        say(
            f"warning: {image.name}: only {100 * background:.1f} % of its voxels are background 0; expected a "
            "skull-stripped brain. Strip the skull first, or give a brain mask with --fixed-mask or --moving-mask."
        )
