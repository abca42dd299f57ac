"""Numba's compiler, with machine code kept between processes wherever a place for it can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable)


def compiled(kernel: Kernel) -> Kernel:
    """Compile a function on its first call; plain IEEE arithmetic (no fastmath), so results equal numpy's.

    The machine code is kept in `__pycache__`, or else in the user's cache folder (NUMBA_CACHE_DIR moves it). Where
    neither can be written, every process compiles again, which takes some seconds, instead of failing.
    """
    try:
        return numba.njit(kernel, cache=True, nogil=True)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(kernel, nogil=True)
