"""The files of one case: each read from disk and unpacked once, hashed as it is read, and checked against the grid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Shaped
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.eval.cases import Case
from lumirkit.registration.volume import read_displacement, read_image, read_labels

Voxels = TypeVar("Voxels", bound=Shaped[ndarray, "x y z"])

_SAMPLES = 65536  # values that the precision of a field is judged by


@dataclass
class Inputs:
    """Reads the files of a case; their bytes are dropped as soon as they are unpacked.

    `disp_vox` is a field (X, Y, Z, 3) in voxels to score instead of the case's file, and `moving_maps` holds label maps
    of the moving image, by their folder, to score instead of theirs.
    """

    case: Case
    disp_vox: Float[ndarray, "x y z 3"] | None = None
    moving_maps: Mapping[str, Int32[ndarray, "x y z"]] = field(default_factory=dict)
    _contents: dict[Path, bytes] = field(default_factory=dict, repr=False)
    _images: dict[Path, Float32[ndarray, "x y z"]] = field(default_factory=dict, repr=False)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the case, by the role and name of the file; reads them all."""
        return {
            f"{meaning}: {path.name}": hashlib.sha256(self._read(path)).hexdigest()
            for path, meaning in self.case.files().items()
        }

    def displacement(self) -> Float[ndarray, "x y z 3"]:
        """The displacement field in voxels, float32 or float64 as the file has it."""
        if self.disp_vox is not None:
            return self.disp_vox
        if self.case.field is None:
            return np.zeros((*self.case.shape, 3), dtype=np.float32, order="F")
        return read_displacement(self.case.field, self.case.shape, self._take(self.case.field))

    def inverse_displacement(self) -> Float[ndarray, "x y z 3"] | None:
        """The field of the opposite direction, None where the case has none."""
        path = self.case.inverse_field
        return None if path is None else read_displacement(path, self.case.shape, self._take(path))

    def mask(self) -> Bool[ndarray, "x y z"]:
        """The brain: where the image of the case's mask rule is above 0."""
        return self._image(self.case.mask_image) > 0

    def images(self) -> tuple[Float32[ndarray, "x y z"], Float32[ndarray, "x y z"]]:
        """Intensities of the fixed and the moving image."""
        return self._image(self.case.fixed_image), self._image(self.case.moving_image)

    def maps(self, folder: str) -> tuple[Int32[ndarray, "x y z"], Int32[ndarray, "x y z"]]:
        """Label maps or landmarks of the fixed and the moving image."""
        fixed, moving = self.case.maps(folder)
        held = self.moving_maps.get(folder)
        return self._labels(fixed), self._labels(moving) if held is None else self._on_grid(moving, held)

    def _labels(self, path: Path) -> Int32[ndarray, "x y z"]:
        return self._on_grid(path, read_labels(path, self._take(path)))

    def _image(self, path: Path) -> Float32[ndarray, "x y z"]:
        if path not in self._images:
            self._images[path] = self._on_grid(path, read_image(path, self._take(path)).data)
        return self._images[path]

    def _on_grid(self, path: Path, data: Voxels) -> Voxels:
        if data.shape != self.case.shape:
            raise VolumeError(
                f"{path}: found shape {data.shape}; expected {self.case.shape}, the images of the evaluation config "
                f"({self.case.files()[path]}). Resample it to that grid."
            )
        return data

    def _read(self, path: Path) -> bytes:
        if path not in self._contents:
            self._contents[path] = path.read_bytes()
        return self._contents[path]

    def _take(self, path: Path) -> bytes:
        content = self._read(path)
        del self._contents[path]
        return content


def looks_like_half_precision(disp_vox: Float[ndarray, "x y z 3"]) -> bool:
    """Tell whether a field was rounded to float16 before it was stored.

    It is True where every sampled value is a float16 number, unless all are multiples of 1/16 voxel, as in fields made
    by hand.
    """
    flat = disp_vox.reshape(-1, order="F" if disp_vox.flags.f_contiguous else "C")
    sample = flat[:: max(1, flat.size // _SAMPLES)]
    with np.errstate(over="ignore"):
        halved = sample.astype(np.float16).astype(sample.dtype)
    return bool((halved == sample).all() and (16 * sample % 1 != 0).any())
