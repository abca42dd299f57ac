"""Scans of another resolution: the image is brought to other voxels and back, label maps stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.eval.stress.over_brain import filtered_brain
from lumirkit.eval.stress.scan import Scan

GRID_MM = 1.0
"""The size of a voxel in the challenge's frame: the resolution that changes nothing."""

_ROUNDING_MM = 1e-3
_SLICES_AXIS = 2  # axial


def voxels(scan: Scan, mm: float, generator: np.random.Generator) -> Scan:
    """Resample the image to cubic voxels of `mm`, and back."""
    return _resampled(scan, mm, range(3))


def slices(scan: Scan, mm: float, generator: np.random.Generator) -> Scan:
    """Resample the image to axial slices of a thickness, and back."""
    return _resampled(scan, mm, [_SLICES_AXIS])


def _resampled(scan: Scan, mm: float, axes: Sequence[int]) -> Scan:
    """Resample along some axes and back; the outline is that of the brain at the other resolution.

    Raises:
        VolumeError: the voxels of the scan are not of GRID_MM.
    """
    if np.abs(scan.voxel_mm - GRID_MM).max() > _ROUNDING_MM:
        raise VolumeError(
            f"{scan.image.name}: found voxels of {' x '.join(f'{size:.3g}' for size in scan.voxel_mm)} mm; expected "
            f"{GRID_MM:g} mm, the challenge's frame. Resample the images and their label maps."
        )

    def there_and_back(volume: Float32[ndarray, "x y z"]) -> Float32[ndarray, "x y z"]:
        for axis in axes:
            operator = _there_and_back(volume.shape[axis], mm / GRID_MM)
            volume = np.moveaxis(np.tensordot(operator, volume, axes=(1, axis)), 0, axis)
        return volume

    return scan.showing(*filtered_brain(scan, there_and_back))


def _there_and_back(size: int, stride: float) -> Float32[ndarray, "size size"]:
    """The matrix that resamples an axis to voxels of `stride` of its own and back.

    On the way there a voxel is a mean under a triangle that reaches to the next ones' centres, and at least to the
    next ones of the axis itself, which is linear interpolation; on the way back all is interpolated linearly.
    """
    count = max(1, round(size / stride))
    centres = (np.arange(count) + 0.5) * size / count - 0.5
    distance = np.abs(centres[:, None] - np.arange(size))
    there = np.maximum(0, 1 - distance / max(1, size / count))
    back = np.maximum(0, 1 - distance.T / (size / count))
    return (_rows_of_one(back) @ _rows_of_one(there)).astype(np.float32)


def _rows_of_one(weights: Float64[ndarray, "rows columns"]) -> Float64[ndarray, "rows columns"]:
    """Divide the weights of each output by their sum."""
    return weights / weights.sum(axis=1, keepdims=True)
