"""Loading beside computing: while one item is used, the next is read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def one_ahead(load: Callable[[Item], Loaded], items: Iterable[Item]) -> Generator[Loaded]:
    """Load items in their order; while one is used, a thread loads the next."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        pending: Future[Loaded] | None = None
        for item in items:
            following = reader.submit(load, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
