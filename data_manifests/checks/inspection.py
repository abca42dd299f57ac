"""Reading one volume completely and keeping only the numbers that the checks need; runs in worker processes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lumirkit.base.nifti import DAMAGE, read_nifti

_MOST_VALUES = 4096  # far more than any label map has; a map with more distinct values is not one


class Kind(StrEnum):
    """The use of a volume."""

    IMAGE = "image"
    LABELS = "label map"
    LANDMARKS = "landmark map"


@dataclass(frozen=True)
class Unreadable:
    """A file that is there but cannot be used; `reason` is the reader's own message."""

    path: Path
    kind: Kind
    reason: str


@dataclass(frozen=True)
class VolumeSummary:
    """The numbers of one volume; paths are relative to the dataset folder.

    `minimum`, `maximum` are over the finite voxels; `border` counts non-zero voxels on the six outer faces, of
    `border_size`; `corners` those among the eight corners; `fractional` voxels that are not whole numbers. `values`
    holds the distinct whole numbers of a label or landmark map. `content` is a hash of shape and voxel values.
    """

    path: Path
    kind: Kind
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    axes: str
    affine: tuple[tuple[float, ...], ...]
    dtype: str
    non_finite: int = 0
    minimum: float = 0.0
    maximum: float = 0.0
    zeros: int = 0
    border: int = 0
    border_size: int = 0
    corners: int = 0
    fractional: int = 0
    values: tuple[int, ...] = ()
    content: str = ""


def inspect_volume(root: Path, path: Path, kind: Kind) -> VolumeSummary | Unreadable:
    """Read `root / path` to its last byte, checksum included, and summarise it."""
    try:
        image = read_nifti(root / path)
        data = np.asanyarray(image.dataobj)
    except DAMAGE as problem:
        return Unreadable(path, kind, f"{type(problem).__name__}: {problem}")
    return _summarise(path, kind, image, data)


def _summarise(path: Path, kind: Kind, image: nib.Nifti1Image, data: NDArray) -> VolumeSummary:
    affine = np.asarray(image.affine, np.float64)
    dtype = image.get_data_dtype()
    numeric = dtype.kind in "iuf"
    header = VolumeSummary(
        path=path,
        kind=kind,
        shape=tuple(map(int, data.shape)),
        spacing_mm=tuple(round(float(size), 4) for size in image.header.get_zooms()[:3]),
        axes=_axes(affine),
        affine=tuple(tuple(float(number) for number in row) for row in affine),
        dtype=str(dtype) if numeric else f"{dtype} (not a number per voxel)",
    )
    if not numeric or data.ndim != 3 or data.size == 0:
        return header  # the shape or dtype finding says it all
    finite = np.isfinite(data) if data.dtype.kind == "f" else np.True_
    broken = int(data.size - np.count_nonzero(finite)) if data.dtype.kind == "f" else 0
    kept = np.where(finite, data, 0) if broken else data
    corners = kept[np.ix_(*((0, -1),) * 3)]
    inner = kept[1:-1, 1:-1, 1:-1]
    nonzero = int(np.count_nonzero(kept))
    summary = replace(
        header,
        non_finite=broken,
        minimum=float(kept.min()),
        maximum=float(kept.max()),
        zeros=kept.size - nonzero,
        border=nonzero - int(np.count_nonzero(inner)),
        border_size=kept.size - inner.size,
        corners=int(np.count_nonzero(corners)),
        content=_content(data),
    )
    return summary if kind is Kind.IMAGE else replace(summary, **_label_numbers(kept))


def _axes(affine: NDArray[np.float64]) -> str:
    """Name where the axes point, for example "RAS"; "???" where the affine does not say."""
    if not np.isfinite(affine).all():
        return "???"
    return "".join(code or "?" for code in nib.aff2axcodes(affine))


def _label_numbers(data: NDArray) -> dict[str, Any]:
    """Count the voxels that are no whole numbers, and list the distinct whole numbers."""
    whole = data if data.dtype.kind in "iu" else np.rint(data)
    values = np.unique(whole)[:_MOST_VALUES]
    return {"fractional": int(np.count_nonzero(whole != data)), "values": tuple(int(value) for value in values)}


def _content(data: NDArray) -> str:
    """Hash shape and voxel values: equal images have equal hashes however they were compressed or stored."""
    plain = np.ascontiguousarray(data, dtype=np.float32)
    return hashlib.blake2b(plain.tobytes(), key=repr(data.shape).encode(), digest_size=16).hexdigest()
