"""Reading scans of heads, NIfTI, MGH or DICOM, with the checks that tell what is no such scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Shaped
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.nifti import DAMAGE, in_one_line
from lumirkit.prepare.dicom import read_series
from lumirkit.registration.any_pair.background import on_dark_background
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import HeaderPlace
from lumirkit.registration.image_like import PlacedImage, as_values, as_volume, grid_of, placed
from lumirkit.registration.label_ids import as_ids
from lumirkit.registration.masks import inside_of, within
from lumirkit.registration.volume import Volume

_THINNEST_MM = 60  # of a head, along any axis; a localiser or a slab shows less
_LARGEST_MM = 1000  # of what a scanner holds
_AIR_HU = -500  # air has -1000 in a CT, the voxels beyond its circle have less still
_LEAST_AIR = 0.05
_MOST_NEGATIVE, _NEGATIVE = 0.01, 0.1  # share of voxels, and what counts as negative, of the brightest


def opened(path: Path) -> PlacedImage:
    """A scan as the readers of the kit take it: a NIfTI file by its path, all else as a nibabel image.

    Args:
        path: a NIfTI or MGH file, or the folder of a DICOM series.

    Raises:
        VolumeError: an MGH file is missing or damaged, or a folder holds no series that can be used.
    """
    if path.is_dir():
        return read_series(path)
    if path.suffix not in (".mgh", ".mgz"):
        return path
    try:
        return nib.MGHImage.from_filename(path)
    except DAMAGE as error:
        raise VolumeError(f"{path}: not a readable MGH image ({in_one_line(error)}). Copy it again.") from error


def read_head(path: Path) -> Volume:
    """Read a scan of a head, in any orientation and spacing; what is below 0 becomes 0.

    Raises:
        VolumeError: the file cannot be read, or is no volume of a head as MRI shows it.
    """
    image = as_volume(opened(path), "head")
    grid = Grid.from_image(image)
    if image.is_guess:
        raise VolumeError(
            f"{path}: its header says neither where it lies nor which side is left (the codes of qform and sform are "
            "0); expected one that does. Repair the header."
        )
    low, high = float(image.data.min()), float(image.data.max())
    if low == high:
        raise VolumeError(f"{path}: every voxel is {low:.4g}; expected a head. Check the export.")
    size_mm = grid.spacing_mm * grid.shape
    if size_mm.min() < _THINNEST_MM:
        raise VolumeError(
            f"{path}: shows {' x '.join(f'{mm:.0f}' for mm in size_mm)} mm; expected at least {_THINNEST_MM} mm along "
            "every axis. It is a localiser or a slab; give the scan of the whole head."
        )
    if size_mm.max() > _LARGEST_MM:
        raise VolumeError(
            f"{path}: shows {' x '.join(f'{mm:.0f}' for mm in size_mm)} mm; expected at most {_LARGEST_MM} mm along "
            "every axis. Correct the spacing or its unit in the header."
        )
    if np.mean(image.data < _AIR_HU) > _LEAST_AIR:
        raise VolumeError(
            f"{path}: found intensities from {low:.0f} to {high:.0f}, as of a CT in Hounsfield units; expected an MRI. "
            "Leave it out."
        )
    image = on_dark_background(image, lambda _: None)
    if np.mean(image.data < -_NEGATIVE * np.percentile(image.data, 99.8)) > _MOST_NEGATIVE:
        raise VolumeError(
            f"{path}: found intensities from {low:.4g} to {high:.4g}, many of them below 0; expected an MRI, in which "
            "air is dark and nothing below 0. Give the scan as the scanner wrote it."
        )
    return replace(image, data=np.maximum(image.data, 0))


def read_mask(path: Path, head: Volume) -> Bool[ndarray, "x y z"]:
    """Read a brain mask, wherever its header places it, as the voxels of a head that it holds.

    Raises:
        VolumeError: it cannot be read, or is no mask of this head's brain.
    """
    mask = opened(path)
    inside, place = inside_of(as_values(mask, "mask"), path), placed(mask, "mask")
    within(head, inside, path, place)  # refuses what is no mask of it
    everywhere = replace(head, data=np.ones_like(head.data))
    return np.asarray(within(everywhere, inside, path, place).data > 0)


def read_label_map(path: Path) -> tuple[Shaped[ndarray, "x y z"], Grid]:
    """Read a label map, and where it lies.

    Raises:
        VolumeError: it cannot be read, or holds what is no id.
    """
    labels = opened(path)
    place: HeaderPlace | None = placed(labels, "label map")
    if place is not None and place.is_guess:
        raise VolumeError(
            f"{path}: its header says neither where it lies nor which side is left; expected the header of its image."
        )
    return as_ids(as_values(labels, "label map"), path), grid_of(labels, "label map")
