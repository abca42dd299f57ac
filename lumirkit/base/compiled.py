"""Numba's compiler, with machine code kept between processes wherever it can be written or was left before.

Numba's own `cache=True` knows a function by its own file alone, although kernels call functions of other files. It also
uses no code from a folder that cannot be written, as in a container, and fails where no folder or no room is left.
"""

from __future__ import annotations

import hashlib
import os
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

# What a compiler may change so that loops become vector instructions: fuse a * b + c, ignore the sign of zero. NaN and
# inf keep their meaning. Sums keep their order: Numba optimises the body of a parallel loop once alone and once as a
# part of its kernel, calls the one in the process that compiles it and the other where the code is kept, and the two
# would reorder, and so round, in different ways.
FIELD_MATHS = {"contract", "nsz", "arcp"}


def compiled(kernel: Kernel, **options: Any) -> Kernel:
    """Compile a function on its first call; plain IEEE arithmetic unless `options` say otherwise.

    The machine code is kept in `__pycache__`, or else in the user's cache folder (NUMBA_CACHE_DIR moves it), until a
    file with compiled functions beside it changes, or this one. Where nothing can be written, code that is there is
    used, and what is missing is compiled for this process, which takes some seconds, instead of failing. Where Numba's
    compiler is switched off (NUMBA_DISABLE_JIT), the function stays as it is.
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
    """Compile what a kernel does at one voxel, in `FIELD_MATHS`; kernels of CPU and GPU call it.

    It becomes a part of each kernel. As a function of its own it would be in the machine code of several kernels, fused
    in another way in each, and all would call the one that was loaded first: rounding would depend on which kernels a
    process had called before. What is better left a function, because it has loops of its own, is `compiled`.
    """
    return compiled(kernel, fastmath=FIELD_MATHS, forceinline=True)


def is_kept(kernel: Any, signature: tuple[Any, ...]) -> bool:
    """Whether the machine code of a compiled function for some types is kept, or could not be kept anyway.

    The code is not linked, which takes a tenth of a second.
    """
    kept = getattr(kernel, "_cache", None)
    if not isinstance(kept, _KeptCode) or not os.access(kept.cache_path, os.W_OK):
        return True
    key = kept._index_key(signature, kernel.targetctx.codegen())  # type: ignore[no-untyped-call]
    data = kept._cache_file.load(key)  # type: ignore[no-untyped-call]
    return data is not None


@cache
def _content(folder: Path) -> str:
    """Hash the files of a folder that hold compiled functions, and this one, which says how they are compiled."""
    sources = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    compiled_ones = (source for source in sources if b"import compiled" in source)
    return hashlib.sha256(b"".join([Path(__file__).read_bytes(), *compiled_ones])).hexdigest()


class _Place(InTreeCacheLocator):
    """The folder of a kernel's code, which is fresh as long as no file beside the kernel's changes."""

    def __init__(self, kernel: Callable, file: str, folder: str) -> None:
        super().__init__(kernel, file)  # type: ignore[no-untyped-call]
        self._file, self._cache_path = file, folder

    @classmethod
    def from_function(cls, kernel: Callable, file: str) -> _Place | None:
        """Find the first place that serves; Numba asks here."""
        places = (cls(kernel, file, folder) for folder in _folders(kernel, file))
        return next((place for place in places if place._serves()), None)

    def get_source_stamp(self) -> str:
        """Hash what the code is made from; Numba takes no code with another stamp."""
        return _content(Path(self._file).parent)

    def _serves(self) -> bool:
        """Tell whether code can be written here, or was left by somebody who could."""
        try:
            self.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return any(Path(self._cache_path).glob("*.nbi"))
        return True


def _folders(kernel: Callable, file: str) -> list[str]:
    """List the folders in which Numba keeps code, the preferred ones first."""
    locators: list[Any] = [InTreeCacheLocator, UserWideCacheLocator]
    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        locators.insert(0, UserProvidedCacheLocator)
    return [locator(kernel, file).get_cache_path() for locator in locators]


class _Code(CompileResultCacheImpl):
    _locator_classes = [_Place]  # type: ignore[list-item]  # noqa: RUF012


class _KeptCode(FunctionCache):
    _impl_class = _Code

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError):  # a full disk or one that can only be read must not stop a registration
            super().save_overload(*arguments)  # type: ignore[no-untyped-call]
