"""Brain masks that a user gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.volume import Volume, read_labels


def masked(volume: Volume, mask: Path, content: bytes | None = None) -> Volume:
    """Set an image to zero outside its mask, as it is in the images that networks are trained on.

    Args:
        content: the bytes of the mask's file, where the caller has read them already.

    Raises:
        VolumeError: the mask cannot be used, has another shape than the image, or leaves nothing of it.
    """
    return within(volume, read_labels(mask, content, single_volume=True) > 0, mask)


def within(volume: Volume, inside: Bool[ndarray, "x y z"], name: Path | str) -> Volume:
    """The image with zero outside a mask that is in memory.

    Args:
        name: what messages call the mask.

    Raises:
        VolumeError: the mask has another shape than the image, or leaves nothing of it.
    """
    if inside.shape != volume.shape:
        raise VolumeError(f"{name}: found shape {inside.shape}; expected {volume.shape}, that of {volume.name}.")
    data = np.where(inside, volume.data, np.float32(0))
    if not data.any():
        raise VolumeError(f"{name}: leaves nothing of {volume.name}; expected a mask of the brain.")
    return Volume(volume.name, data, volume.affine)
