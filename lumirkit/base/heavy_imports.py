"""Imports of large libraries, made quicker."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Put off the collection of garbage while torch is imported.

    It makes hundreds of thousands of objects, which all stay; a tenth of its time is the search for garbage among them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
