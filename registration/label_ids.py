"""The ids of a label map: whole numbers, in an integer type that holds them, however a file stores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from lumirkit.base.errors import VolumeError

_NOISE = 1e-4  # what arithmetic in single precision leaves on an id
_COARSEST_STEP = 0.5  # of a scale factor; beyond it rounding cannot tell neighbouring ids apart
_LARGEST_OF_FLOAT32 = 2**24  # beyond it single precision skips whole numbers
_COMMON_TYPES = (np.int32, np.uint32)  # of more than two bytes, which every reader of NIfTI knows


def as_ids(values: Shaped[ndarray, "*grid"], name: Path | str, step: float = 0) -> Shaped[ndarray, "*grid"]:
    """The ids of a label map: those of an integer type as they are, others rounded to int32, or uint32 if need be.

    Args:
        name: what messages call the label map.
        step: the scale factor that a file's whole numbers were multiplied with, half of which may be missing from each
            value; 0 without one.

    Raises:
        VolumeError: values are not whole numbers, or beyond uint32; the message names the first.
    """
    if values.dtype.kind in "ui":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    values = values.astype(np.float64, copy=False)
    rounded = np.rint(values)
    tolerance = max(_NOISE, step / 2 * (1 + _NOISE)) if step < _COARSEST_STEP else _NOISE
    with np.errstate(invalid="ignore"):
        broken = ~(np.abs(values - rounded) <= tolerance)
    if broken.any():
        raise VolumeError(
            f"{name}: {int(broken.sum())} voxels are not whole numbers, the first is {values[broken][0]:.9g}; expected "
            "a label map of integer ids. Correct them; a map of intensities or probabilities is an image."
        )
    return narrowed(rounded, name)


def narrowed(ids: Shaped[ndarray, "*grid"], name: Path | str) -> Shaped[ndarray, "*grid"]:
    """The ids in a type that every reader of NIfTI knows: of at most four bytes as they are, others int32 or uint32.

    Raises:
        VolumeError: an id is beyond both; the message names it.
    """
    if ids.dtype.kind in "ui" and ids.dtype.itemsize <= 4:
        return ids
    lowest, highest = ids.min(initial=0), ids.max(initial=0)
    for common in _COMMON_TYPES:
        if np.iinfo(common).min <= lowest and highest <= np.iinfo(common).max:
            return ids.astype(common)
    raise VolumeError(
        f"{name}: found ids from {int(lowest)} to {int(highest)}; expected ids that int32 or uint32 holds, as other "
        "tools read no wider ones. Number the labels anew."
    )


def as_int32(ids: Shaped[ndarray, "*grid"], name: Path | str) -> Shaped[ndarray, "*grid"]:
    """The ids as int32.

    Raises:
        VolumeError: an id is beyond int32; the message names it.
    """
    limits = np.iinfo(np.int32)
    if ids.dtype.kind in "ui" and ids.dtype.itemsize >= 4 and ids.dtype != np.int32 and ids.size:
        for extreme in (int(ids.min()), int(ids.max())):
            if not limits.min <= extreme <= limits.max:
                raise VolumeError(
                    f"{name}: found the id {extreme}; expected ids up to {limits.max}, which int32 holds. Number the "
                    "labels anew."
                )
    return ids.astype(np.int32, copy=False)


def may_be_rounded(ids: Shaped[ndarray, "*grid"], stored: np.dtype) -> bool:
    """Whether ids were stored in single precision and some are so large that it may have changed them."""
    return stored == np.float32 and bool(np.abs(ids).max(initial=0) > _LARGEST_OF_FLOAT32)
