"""Numba's compiler, with machine code kept between processes wherever a place for it can be written."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable)

# What a compiler may change so that loops become vector instructions: fuse a * b + c, reorder sums, ignore the sign of
# zero. NaN and inf keep their meaning.
FIELD_MATHS = {"contract", "reassoc", "nsz", "arcp"}


def compiled(kernel: Kernel, **options: Any) -> Kernel:
    """Compile a function on its first call; plain IEEE arithmetic unless `options` say otherwise.

    The machine code is kept in `__pycache__`, or else in the user's cache folder (NUMBA_CACHE_DIR moves it). Where
    neither can be written, every process compiles again, which takes some seconds, instead of failing. Where Numba's
    compiler is switched off (NUMBA_DISABLE_JIT), the function stays as it is.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return kernel
    try:
        dispatcher = numba.njit(kernel, cache=True, nogil=True, **options)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(kernel, nogil=True, **options)
    # Numba would compile again only where the kernel's own file has changed. What it calls lies in other files of the
    # folder too, so machine code is kept under the content of all that hold any.
    dispatcher._cache._cache_file._source_stamp = _content(Path(inspect.getfile(kernel)).parent)
    return dispatcher


@cache
def _content(folder: Path) -> str:
    sources = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"".join(source for source in sources if b"import compiled" in source)).hexdigest()


def compiled_loops(kernel: Kernel) -> Kernel:
    """Compile a kernel on fields: `numba.prange` loops run on all threads, the arithmetic is `FIELD_MATHS`."""
    return compiled(kernel, parallel=True, fastmath=FIELD_MATHS)


def compiled_point(kernel: Kernel) -> Kernel:
    """Compile what a kernel does at one voxel, in `FIELD_MATHS`; kernels of CPU and GPU call it."""
    return compiled(kernel, fastmath=FIELD_MATHS)
