"""A process ends when the system asks for it, even as the first of a container, for which there is no default."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


def end_on_sigterm() -> None:
    """Let SIGTERM end the process as an exception would: files in the making are removed, the account is written."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it comes once more from impatient schedulers
    sys.exit(128 + number)
