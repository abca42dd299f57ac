"""Images as a caller has them: NIfTI files, nibabel images or arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from nibabel.spatialimages import SpatialImage
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.nifti import DAMAGE, in_one_line, open_nifti
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import NO_CHOICE, HeaderChoice, HeaderPlace, header_remark, place_of
from lumirkit.registration.volume import (
    Volume,
    read_image,
    read_place,
    read_values,
    require_brain,
    spatial_shape,
)

PlacedImage = Path | str | SpatialImage
"""A NIfTI file or a nibabel image, whose header says where it lies."""
ImageLike = PlacedImage | ndarray
"""An image with a header, or an array (X, Y, Z); axes beyond the third may follow if they have one voxel."""


def as_volume(
    image: ImageLike, role: str, affine: Float[ndarray, "4 4"] | None = None, choice: HeaderChoice = NO_CHOICE
) -> Volume:
    """Read an image as float32, with its affine.

    Args:
        role: what messages call the image if it has no file, such as "fixed".
        affine: takes the voxels of an array to RAS mm; without it they are at their indices.
        choice: what the user says of a header that leaves a choice.

    Raises:
        VolumeError: the image is missing, damaged, not 3-D, holds NaN or inf, or is zero everywhere.
        RequestError: it is no image at all, or comes with an affine and has its own.
    """
    if affine is not None and not is_array(image):
        raise RequestError(f"{name_of(image, role)}: has an affine of its own; expected none beside it. Leave it out.")
    if isinstance(image, Path | str):
        return read_image(Path(image), single_volume=True, choice=choice)
    name = name_of(image, role)
    data = _values(image, name).astype(np.float32)
    require_brain(name, data)
    if not isinstance(image, SpatialImage):
        return Volume(name, data, _checked_affine(affine, name))
    place = place_of(image, name, choice)
    return Volume(name, data, place.affine, place.itk_affine, place.is_guess)


def as_values(image: ImageLike, role: str) -> Shaped[ndarray, "x y z"]:
    """Read the values of a 3-D image, such as a mask, in a type that holds them.

    Args:
        role: what messages call the image if it has no file.

    Raises:
        VolumeError: the image is missing, damaged, not 3-D, or holds no real numbers.
        RequestError: it is no image at all.
    """
    if isinstance(image, Path | str):
        return read_values(Path(image))
    return _values(image, name_of(image, role))


def grid_of(image: PlacedImage, role: str, choice: HeaderChoice = NO_CHOICE) -> Grid:
    """The grid that an image's header names, by the header alone.

    Args:
        choice: what the user says of a header that leaves a choice.

    Raises:
        VolumeError: a file is missing or not NIfTI, or the affine has no inverse.
        RequestError: it has no header.
    """
    if isinstance(image, Path | str):
        return Grid.from_file(Path(image), choice)
    if isinstance(image, SpatialImage):
        x, y, z = (*image.shape, 1, 1)[:3]
        voxels = np.broadcast_to(np.float32(0), (x, y, z))
        name = name_of(image, role)
        place = place_of(image, name, choice)
        return Grid.from_image(Volume(name, voxels, place.affine, place.itk_affine, place.is_guess))
    raise RequestError(f"the {role} image: found a {type(image).__name__}; expected a path or a nibabel image.")


def placed(image: ImageLike, role: str, choice: HeaderChoice = NO_CHOICE) -> HeaderPlace | None:
    """The place that the header of an image gives it; None for an array, which has none.

    Args:
        choice: what the user says of a header that leaves a choice.

    Raises:
        VolumeError: a file is missing or not NIfTI.
    """
    if isinstance(image, Path | str):
        return read_place(Path(image), choice)
    return place_of(image, name_of(image, role), choice) if isinstance(image, SpatialImage) else None


def say_of_header(image: ImageLike, role: str, say: Callable[[str], None], choice: HeaderChoice = NO_CHOICE) -> None:
    """Tell what a user should know about where the header of an image places it, if there is anything to tell.

    Raises:
        VolumeError: a file is missing or not NIfTI.
        RequestError: the orientation that the user says is none.
    """
    name = name_of(image, role)
    header = open_nifti(Path(image)) if isinstance(image, Path | str) else image
    remark = header_remark(header, name, choice) if isinstance(header, SpatialImage) else None
    if remark is not None:
        say(remark)


def is_array(image: object) -> bool:
    """Tell whether an image is an array, which has no header."""
    return hasattr(image, "__array__") and not isinstance(image, SpatialImage)


def name_of(image: object, role: str) -> str:
    """Name an image for messages: its file, or words if it has none.

    Args:
        role: what the image is, such as "fixed".
    """
    if isinstance(image, Path | str):
        return str(image)
    if isinstance(image, SpatialImage):
        return image.get_filename() or f"the {role} image"
    return f"the {role} array" if is_array(image) else f"the {role} image"


def values_of(image: ImageLike, name: str) -> Shaped[ndarray, "*axes"]:
    """The voxels of a nibabel image or an array, which must be real numbers, on any number of axes.

    Args:
        name: what messages call the image.

    Raises:
        VolumeError: its file is damaged, or these are no real numbers.
        RequestError: it is no image at all.
    """
    if isinstance(image, SpatialImage):
        try:
            values = np.asanyarray(image.dataobj)
        except DAMAGE as error:
            raise VolumeError(
                f"{name}: the file is damaged or truncated ({in_one_line(error)}). Copy or download it again."
            ) from error
    elif is_array(image):
        values = np.asarray(image)
    else:
        found = type(image).__name__
        raise RequestError(f"{name}: found a {found}; expected a path, a nibabel image or an array (X, Y, Z).")
    if values.dtype.kind not in "buif":
        raise VolumeError(f"{name}: found values of type {values.dtype}; expected real numbers. Convert them.")
    return values


def _values(image: ImageLike, name: str) -> Shaped[ndarray, "x y z"]:
    """The voxels of a nibabel image or an array, which must be real numbers on three axes."""
    values = values_of(image, name)
    return values.reshape(spatial_shape(name, values.shape, single_volume=True))


def _checked_affine(affine: Float[ndarray, "4 4"] | None, name: str) -> Float[ndarray, "4 4"]:
    found = np.eye(4) if affine is None else np.asarray(affine, np.float64)
    if found.shape != (4, 4):
        raise VolumeError(f"{name}: found an affine of shape {found.shape}; expected (4, 4), from voxels to RAS mm.")
    return found
