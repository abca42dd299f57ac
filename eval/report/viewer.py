"""What the viewer of a pair shows: its volumes at about 2 mm, each as one picture that a browser takes apart again.

Such a picture is a mosaic of all axial slices. The browser makes the sagittal and coronal slices from them itself, so
each voxel is in the page once. `templates/viewer.js` is the other end of what is packed here.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy import ndarray
from PIL import Image

from lumirkit.eval.metrics.ndv import central_determinant
from lumirkit.eval.pictures import LOG_JACOBIAN_RANGE, RegisteredPair, middle_of
from lumirkit.eval.report.page import as_data_uri
from lumirkit.registration.header import HeaderPlace
from lumirkit.registration.jacobian import log_determinant

_MM = 2.0
_LONGEST = 256  # slices along an axis; a picture in WebP has at most 16383 pixels along an edge
_QUALITY = 25
_JACOBIAN_QUALITY = 10
_NEUTRAL = 128  # the grey value of an unchanged volume
_SLAB = 16  # planes of a field whose determinants are computed at a time
_SIDES = ("L", "R", "P", "A", "I", "S")


@dataclass(frozen=True)
class Packing:
    """How volumes of one grid (X, Y, Z) are turned and made coarser.

    `orientation` turns the axes to right, anterior and superior, as nibabel does it; None leaves them, because the
    header does not say where they run. `strides` are the voxels of a block along the turned axes, `edges_mm` the edges
    of such a block.
    """

    orientation: Float[ndarray, "3 2"] | None
    strides: tuple[int, int, int]
    edges_mm: tuple[float, float, float]

    @classmethod
    def of(cls, shape: tuple[int, int, int], place: HeaderPlace) -> Packing:
        """Plan blocks of about 2 mm for a grid that lies at `place`."""
        found = nib.io_orientation(place.affine)
        orientation = found if np.isfinite(found).all() and not place.is_guess else None
        edges = nib.affines.voxel_sizes(place.affine)
        edges[~(np.isfinite(edges) & (edges > 0))] = 1.0
        order = np.arange(3) if orientation is None else np.argsort(orientation[:, 0])
        strides = [max(1, round(_MM / edges[axis]), math.ceil(shape[axis] / _LONGEST)) for axis in order]
        x, y, z = zip(
            strides, (stride * float(edges[axis]) for stride, axis in zip(strides, order, strict=True)), strict=True
        )
        return cls(orientation, (x[0], y[0], z[0]), (x[1], y[1], z[1]))

    def means(self, volume: Float[ndarray, "x y z"]) -> Float[ndarray, "i j k"]:
        """The means of the blocks; those over the border are filled up with 0."""
        return self._blocks(volume).mean((1, 3, 5))

    def any(self, mask: Bool[ndarray, "x y z"]) -> Bool[ndarray, "i j k"]:
        """The blocks in which a voxel is marked."""
        return np.asarray(self._blocks(mask).any((1, 3, 5)))

    def centres(self, labels: Int[ndarray, "x y z"]) -> Int[ndarray, "i j k"]:
        """The label of a voxel in the middle of each block."""
        x, y, z = (stride // 2 for stride in self.strides)
        return self._blocks(labels)[:, x, :, y, :, z]

    def _blocks(self, volume: Shaped[ndarray, "x y z"]) -> Shaped[ndarray, "i a j b k c"]:
        turned = volume if self.orientation is None else nib.apply_orientation(volume, self.orientation)
        rest = [(0, -size % stride) for size, stride in zip(turned.shape, self.strides, strict=True)]
        filled = np.pad(turned, rest, mode="edge" if turned.dtype.kind in "iu" else "constant")
        x, y, z = (size // stride for size, stride in zip(filled.shape, self.strides, strict=True))
        return filled.reshape(x, self.strides[0], y, self.strides[1], z, self.strides[2])


def pack_shared(pair: RegisteredPair, packing: Packing) -> dict[str, Any]:
    """Pack what all rows of a pair share; the result goes into the page as JSON.

    Returns:
        The size (X, Y, Z) of the coarse grid, the edges of its voxels in mm, the letters at the ends of its axes, the
        point at which the viewer opens, and the images as data URIs.
    """
    fixed = packing.means(pair.fixed)
    return {
        "size": fixed.shape,
        "edges_mm": packing.edges_mm,
        "columns": _columns(fixed.shape),
        "sides": None if packing.orientation is None else _SIDES,
        "start": middle_of(fixed),
        "fixed": _image(fixed, _QUALITY),
        "moving": _image(packing.means(pair.moving), _QUALITY),
        "fixed_labels": _labels(pair.fixed_labels, packing),
    }


def pack_row(pair: RegisteredPair, packing: Packing) -> dict[str, Any]:
    """Pack what one row made of a pair, as data URIs: the warped image and labels, the log-Jacobian and the folds."""
    logarithm, folds = _log_jacobian(pair)
    grey = _NEUTRAL + (_NEUTRAL - 1) / LOG_JACOBIAN_RANGE * packing.means(logarithm)
    return {
        "warped": _image(packing.means(pair.warped), _QUALITY),
        "warped_labels": _labels(pair.warped_labels, packing),
        "jacobian": _image(grey, _JACOBIAN_QUALITY),
        "folds": _exact(packing.any(folds).astype(np.int64)) if folds.any() else None,
    }


def _log_jacobian(pair: RegisteredPair) -> tuple[Float[ndarray, "x y z"], Bool[ndarray, "x y z"]]:
    """The logarithm of the determinant in the brain, within the range of the colours and 0 elsewhere, and the folds."""
    logarithm = np.zeros(pair.fixed.shape)
    folds = np.zeros(pair.fixed.shape, dtype=bool)
    inside = (slice(1, -1), slice(1, -1))
    for first in range(1, pair.fixed.shape[0] - 1, _SLAB):
        last = min(first + _SLAB, pair.fixed.shape[0] - 1)
        slab = np.moveaxis(pair.disp_vox[first - 1 : last + 1], -1, 0).astype(np.float64)
        determinant = central_determinant(slab)
        brain = pair.fixed[first:last][(slice(None), *inside)] > 0
        values = log_determinant(determinant).clip(-LOG_JACOBIAN_RANGE, LOG_JACOBIAN_RANGE)
        logarithm[(slice(first, last), *inside)] = np.where(brain, values, 0)
        folds[(slice(first, last), *inside)] = brain & (determinant <= 0)
    return logarithm, folds


def _columns(size: tuple[int, ...]) -> int:
    """The slices of a row of a mosaic, which is about square."""
    x, y, z = size
    return max(1, math.ceil(math.sqrt(z * y / x)))


def _mosaic(volume: Shaped[ndarray, "x y z *channels"]) -> Shaped[ndarray, "height width *channels"]:
    """All axial slices side by side, row by row from the lowest; x runs along a row and y down."""
    x, y, z, *channels = volume.shape
    columns = _columns((x, y, z))
    rows = -(-z // columns)
    slices = np.zeros((rows * columns, y, x, *channels), volume.dtype)
    slices[:z] = np.moveaxis(volume, (2, 1, 0), (0, 1, 2))
    lines = slices.reshape(rows, columns, y, x, *channels).swapaxes(1, 2)
    return lines.reshape(rows * y, columns * x, *channels)


def _image(volume: Float[ndarray, "x y z"], quality: int) -> str:
    """Grey values 0…255, smaller by what hardly anybody sees."""
    grey = volume.round().clip(0, 255).astype(np.uint8)
    return _webp(_mosaic(grey), quality=quality, method=6)


def _labels(labels: Int[ndarray, "x y z"] | None, packing: Packing) -> str | None:
    return None if labels is None else _exact(packing.centres(labels).astype(np.int64))


def _exact(numbers: Int[ndarray, "x y z"]) -> str:
    """Whole numbers, the lowest 24 bits of them exactly, in red, green and blue."""
    channels = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16 & 255], axis=-1).astype(np.uint8)
    return _webp(_mosaic(channels), lossless=True, method=4)


def _webp(pixels: UInt8[ndarray, "height width *channels"], **options: Any) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="webp", **options)
    return as_data_uri(content.getvalue(), "webp")
