"""Brain masks that a user gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.header import HeaderPlace, in_one_place
from lumirkit.registration.volume import Volume, read_values

_NOISE = 1e-4  # of interpolation, beyond 0 and 1
_HALF = 0.5
_LEAST_OF_A_BRAIN = 0.5  # what a mask keeps of the voxels that are not background


def masked(volume: Volume, mask: Path, content: bytes | None = None, place: HeaderPlace | None = None) -> Volume:
    """Set an image to zero outside its mask, as it is in the images that networks are trained on.

    Args:
        content: the bytes of the mask's file, where the caller has read them already.
        place: where the mask lies; None for the voxels of the image, whatever the headers say.

    Raises:
        VolumeError: the mask cannot be used, has no place on the image, or leaves nothing of it.
    """
    return within(volume, inside_of(read_values(mask, content), mask), mask, place)


def inside_of(values: Shaped[ndarray, "i j k"], name: Path | str) -> Bool[ndarray, "i j k"]:
    """The voxels that a mask holds: those above 0, or of a mask with soft edges, from 0 to 1, those of 0.5 and more.

    Args:
        name: what messages call the mask.

    Raises:
        VolumeError: these are neither whole numbers nor shares from 0 to 1.
    """
    if values.dtype.kind in "bui" or not np.any(values != np.rint(values)):
        return values > 0
    low, high = values.min(), values.max()
    if not (low >= -_NOISE and high <= 1 + _NOISE):  # NaN is not
        raise VolumeError(
            f"{name}: found values from {low:.4g} to {high:.4g}, not all of them whole numbers; expected a mask, of 0 "
            "and 1, or with soft edges from 0 to 1. Threshold it."
        )
    return values >= _HALF


def within(
    volume: Volume, inside: Bool[ndarray, "i j k"], name: Path | str, place: HeaderPlace | None = None
) -> Volume:
    """The image with zero outside a mask that is in memory.

    Args:
        name: what messages call the mask.
        place: where the mask lies; None for the voxels of the image, whatever the headers say.

    Raises:
        VolumeError: the mask has no place on the image, leaves nothing of it, or is that of the background.
    """
    if not inside.any():
        raise VolumeError(f"{name}: no voxel is above 0; expected a mask of the brain. Make the mask again.")
    if place is not None:
        inside = _on_grid_of(volume, inside, name, place)
    if inside.shape != volume.shape:
        raise VolumeError(f"{name}: found shape {inside.shape}; expected {volume.shape}, that of {volume.name}.")
    data = np.where(inside, volume.data, np.float32(0))
    if not data.any():
        raise VolumeError(f"{name}: leaves nothing of {volume.name}; expected a mask of the brain.")
    kept = np.count_nonzero(data) / np.count_nonzero(volume.data)
    corners = inside[np.ix_(*((0, -1) for _ in inside.shape))]
    if corners.all() and kept < _LEAST_OF_A_BRAIN:
        raise VolumeError(
            f"{name}: holds the corners of {volume.name} and {100 * kept:.0f} % of what is not background; expected a "
            "mask of the brain. It looks inverted: exchange 0 and 1."
        )
    return replace(volume, data=data)


def _on_grid_of(
    volume: Volume, inside: Bool[ndarray, "i j k"], name: Path | str, place: HeaderPlace
) -> Bool[ndarray, "x y z"]:
    """The mask at the voxels of an image, by the nearest of its own; False beyond it."""
    if inside.shape == volume.shape and in_one_place(inside.shape, place.affine, volume.affine):
        return inside
    if place.is_guess:
        raise VolumeError(
            f"{name}: its header says neither where it lies nor which side is left (the codes of qform and sform are "
            f"0); expected the header of {volume.name}. Copy that header to the mask."
        )
    mask_from_image = np.linalg.inv(place.affine) @ volume.affine
    axes = np.ogrid[tuple(slice(size) for size in volume.shape)]
    found = np.ones(volume.shape, bool)
    nearest = []
    for row, size in zip(mask_from_image[:3], inside.shape, strict=True):
        at = np.rint(sum((step * axis for step, axis in zip(row, axes, strict=False)), row[3])).astype(int)
        found &= (at >= 0) & (at < size)
        nearest.append(np.clip(at, 0, size - 1))
    found &= inside[tuple(nearest)]
    if not found.any():
        raise VolumeError(
            f"{name}: lies elsewhere than {volume.name}, by their headers; expected a mask of its brain. Give the mask "
            "of this image, or repair its header."
        )
    return found
