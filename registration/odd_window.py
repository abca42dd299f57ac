"""The edge of a window that has a centre voxel, as settings hold it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PositiveInt


def _odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"found {window}; expected an odd window, which has a centre voxel")
    return window


OddWindow = Annotated[PositiveInt, AfterValidator(_odd)]
