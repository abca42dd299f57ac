"""One progress display for every long loop: a bar on a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A display that counts steps of a known total.

    Use it as a context manager and call `advance` once a step. A silent one shows nothing; all processes of a run but
    one have a silent one.
    """

    def __init__(self, total: int, description: str, initial: int = 0, silent: bool = False) -> None:
        hidden = silent or not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=description, initial=initial, disable=hidden, dynamic_ncols=True)
        self._silent = silent
        self._total, self._done, self._description = total, initial, description
        self._start = self._last_line = time.monotonic()
        self._initial = initial

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, note: str = "") -> None:
        """Count one step that is done; `note` is a short text such as a running mean."""
        self._done += 1
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._silent or not self._bar.disable:
            return
        if now - self._last_line > _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._last_line = now
            left = (now - self._start) / (self._done - self._initial) * (self._total - self._done)
            timing = f"{now - self._start:.0f} s, {left:.0f} s left"
            print(f"{self._description} {self._done}/{self._total} ({timing}) {note}", file=sys.stderr, flush=True)
