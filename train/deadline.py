"""When training stops before its recipe is done: after a time, or when the system asks for it."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Deadline:
    """The time to stop: after some minutes, or once a signal to end has come; without either it never comes."""

    def __init__(self, minutes: float | None = None) -> None:
        self._end = float("inf") if minutes is None else time.monotonic() + 60 * minutes

    @property
    def passed(self) -> bool:
        """Whether the time to stop has come."""
        return time.monotonic() > self._end

    def on_termination(self) -> None:
        """Let the deadline pass at SIGTERM, which schedulers send before they kill: a checkpoint is then in time."""
        signal.signal(signal.SIGTERM, self._pass)

    def _pass(self, number: int, frame: FrameType | None) -> None:
        self._end = float("-inf")
