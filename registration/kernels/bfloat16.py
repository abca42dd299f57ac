"""bfloat16 inside kernels: Numba has no such type, so its bits travel as uint16 and are widened to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from lumirkit.base.compiled import compiled_point


@compiled_point
def widened(bits: np.uint16) -> np.float32:
    """The float32 of the same value as a bfloat16."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@compiled_point
def narrowed(value: np.float32) -> np.uint16:
    """The bits of the nearest bfloat16; ties go to the even one, and NaN stays NaN."""
    bits = np.float32(value).view(np.uint32)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.uint16((rounded if value == value else np.uint32(0x7FC00000)) >> np.uint32(16))


def load(value: Any) -> Any:
    """Turn an array's element into a number to compute with: bfloat16 is widened, everything else stays as it is."""
    raise NotImplementedError("only inside compiled kernels")


def store(row: Any, index: int, value: Any) -> None:
    """Put a number into an array, and round it to bfloat16 where the array holds the bits of such numbers."""
    raise NotImplementedError("only inside compiled kernels")


# Numba compares the signatures of an overload and its implementation, annotations included; so they have none.
@overload(load)
def _load(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return (lambda value: widened(value)) if value == types.uint16 else (lambda value: value)


@overload(store)
def _store(row, index, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    def store_bits(row, index, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        row[index] = narrowed(value)

    def store_value(row, index, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        row[index] = value

    return store_bits if row.dtype == types.uint16 else store_value
