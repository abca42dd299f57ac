"""The frame that the networks know, and images carried to it: RAS, 1 mm, intensities 0…255, background 0."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float64, Int64
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.processing import resample_from_to, smooth_image
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume

BRIGHTEST = 255
_BRIGHT_PERCENTILE = 99.8  # of the brain; the challenge's images have it at 255
_DIMMEST = 32  # an image within 0…255 whose bright voxels are darker has another scale, such as 0…1
_MARGIN_MM = 4
_MULTIPLE = 32  # sizes of 160x224x192, and what the coarsest of six levels divides
_SMALLEST_MM, _LARGEST_MM = 20, 400
_THINNEST_MM = 1  # along any axis of the array; thinner ones are smoothed for hours to the frame's 1 mm
_STRAIGHT = 1e-3
_LARGEST_SHARED = 2 * 160 * 224 * 192  # voxels; the 256x256x256 of many tools take twice the time that a box does


def normalised(image: Volume) -> Volume:
    """The image with [0, 99.8th percentile in the brain] mapped to [0, 255] and clipped, if it is not in that range.

    Raises:
        VolumeError: no voxel is above 0.
    """
    brain = image.data[image.data > 0]
    if not brain.size:
        raise VolumeError(
            f"{image.name}: no voxel is above 0; expected a brain on background 0. Shift the intensities."
        )
    bright = np.percentile(brain, _BRIGHT_PERCENTILE)
    if image.data.min() >= 0 and image.data.max() <= BRIGHTEST and bright >= _DIMMEST:
        return image
    return replace(image, data=np.clip(image.data * np.float32(BRIGHTEST / bright), 0, BRIGHTEST))


def brain_box_mm(image: Volume) -> Float64[ndarray, "2 3"]:
    """The corners of the box, along the axes of the world, around the voxels above 0: lowest and highest RAS mm.

    Raises:
        VolumeError: it is not as large as a brain.
    """
    ends_mm = apply_affine(image.affine, _ends_of_columns(image.data > 0))
    low_mm, high_mm = ends_mm.min(axis=0), ends_mm.max(axis=0)
    span_mm = high_mm - low_mm
    thinnest_mm = (voxel_sizes(image.affine) * image.shape).min()
    if not (_SMALLEST_MM <= span_mm.max() <= _LARGEST_MM and thinnest_mm >= _THINNEST_MM):
        raise VolumeError(
            f"{image.name}: {' x '.join(f'{span:.4g}' for span in span_mm)} mm of it are not background; expected "
            f"a brain of {_SMALLEST_MM} to {_LARGEST_MM} mm. Check spacing and units in the header, and the background."
        )
    return np.stack([low_mm, high_mm])


def _ends_of_columns(brain: Bool[ndarray, "x y z"]) -> Int64[ndarray, "n 3"]:
    """The first and the last voxel of the brain along z, for every x and y; no other one is outermost anywhere."""
    columns = np.argwhere(brain.any(axis=2))
    within = brain[tuple(columns.T)]
    first, last = within.argmax(axis=1), brain.shape[2] - 1 - within[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([columns, end]) for end in (first, last)])


def brain_centre_mm(image: Volume) -> Float64[ndarray, " 3"]:
    """The mean place of the voxels above 0, in RAS mm."""
    brain = image.data > 0
    counts = [np.count_nonzero(brain, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    mean_vox = [np.average(np.arange(len(count)), weights=count) for count in counts]
    return apply_affine(image.affine, mean_vox)


def frame_of(fixed: Volume, moving: Volume) -> Grid:
    """The grid on which two images are registered.

    Where both share a grid of 1 mm along the world's axes, it is that one, its axes put in the order RAS. Otherwise,
    and where that is mostly background, it is a box around both brains with at least 4 mm on each side, of a multiple
    of 32 voxels along each axis, as the challenge's 160x224x192 is, which it comes near for adult brains. Its voxels
    are those of the fixed image, where that has 1 mm along the world's axes.

    Raises:
        VolumeError: an affine has no inverse, or no brain is as large as found.
    """
    fixed_grid, moving_grid = Grid.from_image(fixed), Grid.from_image(moving)
    canonical = fixed_grid.canonical
    is_straight = np.allclose(canonical.affine[:3, :3], np.eye(3), rtol=0, atol=_STRAIGHT)
    if is_straight and fixed_grid.same_as(moving_grid) and np.prod(canonical.shape) <= _LARGEST_SHARED:
        return canonical
    boxes_mm = np.stack([brain_box_mm(image) for image in (fixed, moving)])
    low, high = boxes_mm[:, 0].min(axis=0), boxes_mm[:, 1].max(axis=0)
    blocks = np.ceil((high - low + 2 * _MARGIN_MM) / _MULTIPLE).astype(int)
    corner = (low + high) / 2 - (blocks * _MULTIPLE - 1) / 2
    lattice = canonical.affine[:3, 3]
    x, y, z = (int(size) for size in blocks * _MULTIPLE)
    return Grid((x, y, z), nib.affines.from_matvec(np.eye(3), lattice + np.rint(corner - lattice)))


def resampled(image: Volume, grid: Grid) -> Volume:
    """The image on another grid, linearly, 0 beyond its own; the same image if it lies there already.

    Where its voxels are smaller than those of the grid it is smoothed first, so that none falls between two of them.
    """
    found = Grid.from_image(image)
    if found.same_as(grid):
        return image
    width_mm = np.sqrt(np.maximum(0, grid.spacing_mm.max() ** 2 - found.spacing_mm**2))
    smoothed = smooth_image(nib.Nifti1Image(image.data, image.affine), width_mm)
    there = resample_from_to(smoothed, (grid.shape, grid.affine), order=1, mode="grid-constant")
    return Volume(image.name, there.get_fdata(dtype=np.float32), grid.affine)
