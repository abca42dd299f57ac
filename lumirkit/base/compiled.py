"""Numba's compiler, with machine code kept between processes wherever it can be written or was left before.

Numba keeps a function's code under the content of the function's own file. Kernels call functions of other files, and
a container runs from a file system that can only be read; both need the changes made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)

Kernel = TypeVar("Kernel", bound=Callable)

# What a compiler may change so that loops become vector instructions: fuse a * b + c, reorder sums, ignore the sign of
# zero. NaN and inf keep their meaning.
FIELD_MATHS = {"contract", "reassoc", "nsz", "arcp"}


def compiled(kernel: Kernel, **options: Any) -> Kernel:
    """Compile a function on its first call; plain IEEE arithmetic unless `options` say otherwise.

    The machine code is kept in `__pycache__`, or else in the user's cache folder (NUMBA_CACHE_DIR moves it), until a
    file with compiled functions beside it changes. Where nothing can be written, code that is there is used, and what
    is missing is compiled for this process, which takes some seconds, instead of failing. Where Numba's compiler is
    switched off (NUMBA_DISABLE_JIT), the function stays as it is.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return kernel
    options.setdefault("fastmath", False)  # unset, it would be whatever the first compiled caller has
    dispatcher = numba.njit(kernel, nogil=True, **options)
    with suppress(RuntimeError):  # no place for machine code, neither to write nor to read
        dispatcher._cache = _KeptCode(kernel)  # type: ignore[no-untyped-call]
    return dispatcher


def compiled_loops(kernel: Kernel) -> Kernel:
    """Compile a kernel on fields: `numba.prange` loops run on all threads, the arithmetic is `FIELD_MATHS`."""
    return compiled(kernel, parallel=True, fastmath=FIELD_MATHS)


def compiled_point(kernel: Kernel) -> Kernel:
    """Compile what a kernel does at one voxel, in `FIELD_MATHS`; kernels of CPU and GPU call it."""
    return compiled(kernel, fastmath=FIELD_MATHS)


@cache
def _content(folder: Path) -> str:
    """Hash of the files that hold compiled functions."""
    sources = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"".join(source for source in sources if b"import compiled" in source)).hexdigest()


class _OfAllFiles:
    """Code is fresh as long as no file beside the function's changes."""

    _py_file: str

    def get_source_stamp(self) -> str:
        return _content(Path(self._py_file).parent)


class _UserProvided(_OfAllFiles, UserProvidedCacheLocator):
    pass


class _InTree(_OfAllFiles, InTreeCacheLocator):
    @classmethod
    def from_function(cls, py_func: Callable, py_file: str) -> _InTree | None:
        locator: _InTree | None = super().from_function(py_func, py_file)  # type: ignore[no-untyped-call]
        if locator is None and any((Path(py_file).parent / "__pycache__").glob("*.nbi")):
            return cls(py_func, py_file)  # left by who could write here
        return locator


class _UserWide(_OfAllFiles, UserWideCacheLocator):
    pass


class _Places(CompileResultCacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide]  # noqa: RUF012


class _KeptCode(FunctionCache):
    _impl_class = _Places

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError):  # a full disk or one that can only be read must not stop a registration
            super().save_overload(*arguments)  # type: ignore[no-untyped-call]
