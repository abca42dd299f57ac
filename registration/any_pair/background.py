"""The background of an image: found where it is not 0 or lies among the brain's own intensities, and set to 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.below_zero import TAKEN_FOR_BACKGROUND, reaches_below_zero
from lumirkit.registration.volume import Volume

_LEAST_BACKGROUND = 0.2  # share of the voxels with one value; around a skull-stripped head in its box it is half
_LEVELS = 255  # the darkest voxel of the brain is one of so many levels above the background


def on_dark_background(image: Volume, say: Callable[[str], None]) -> Volume:
    """The image with its background at 0 and all of its brain above.

    The background is the commonest value of the grid's faces, if many voxels have it. An image that has it at 0 and
    nothing, or next to nothing, below is returned as it is.

    Args:
        say: is told what was done, or that the background was not found.

    Raises:
        VolumeError: all voxels have one value.
    """
    data = image.data
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise VolumeError(f"{image.name}: every voxel is {low:.4g}; expected a brain on background. Check the export.")
    background = _commonest_on_faces(data)
    if background == 0 and low >= 0:
        return image
    brain = data != background
    if 1 - np.count_nonzero(brain) / brain.size < _LEAST_BACKGROUND:
        if reaches_below_zero(data):
            say(
                f"warning: {image.name}: {low:.4g}…{high:.4g}, and no one value around the brain; "
                f"{TAKEN_FOR_BACKGROUND}"
            )
        return image
    if background == 0 and not reaches_below_zero(data[brain]):
        return image
    darkest = float(data[brain].min())
    step = (float(data[brain].max()) - darkest) / _LEVELS or 1.0
    say(
        f"{image.name}: {low:.4g}…{high:.4g} with the background at {background + 0.0:.4g}; shifted so that the "
        "background is 0 and the brain above it"
    )
    return replace(image, data=np.where(brain, data - np.float32(darkest - step), np.float32(0)))


def _commonest_on_faces(data: Float32[ndarray, "x y z"]) -> float:
    faces = [np.moveaxis(data, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    return float(values[counts.argmax()])
