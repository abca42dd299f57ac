"""What a field carries: images, series, vector images and label maps, with any number of axes beyond the third."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.image_like import ImageLike, name_of, values_of
from lumirkit.registration.label_ids import as_ids
from lumirkit.registration.volume import read_ids, read_intensities


def as_carried(image: ImageLike, role: str, labels: bool) -> Shaped[ndarray, "x y z *rest"]:
    """Read what is to be carried: label maps in an integer type, all else as float32; all may be zero everywhere.

    Args:
        role: what messages call the image if it has no file.
        labels: it is a label map.

    Returns:
        The values; axes beyond the third are left out where they have one voxel each.

    Raises:
        VolumeError: the image is missing or damaged, has fewer than three axes or no voxel, or holds NaN, inf, or what
            is no id.
        RequestError: it is no image at all.
    """
    name = name_of(image, role)
    if isinstance(image, Path | str):
        values = read_ids(Path(image)) if labels else read_intensities(Path(image))
    else:
        values = values_of(image, name)
        values = as_ids(values, name) if labels else values.astype(np.float32)
    if values.ndim < 3:
        raise VolumeError(
            f"{name}: found shape {values.shape}; expected (X, Y, Z), or more axes. Add the missing ones."
        )
    if not values.size:
        raise VolumeError(f"{name}: found shape {values.shape}, which has no voxel; expected some. Export it again.")
    broken = 0 if labels else int(values.size - np.isfinite(values).sum())
    if broken:
        raise VolumeError(f"{name}: {broken} voxels are NaN or inf; expected finite intensities. Set them to 0.")
    return values.reshape(values.shape[:3]) if set(values.shape[3:]) <= {1} else values
