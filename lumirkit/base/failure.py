"""What is told of one piece of work that failed while others go on: a reason to read, and where it happened."""

from __future__ import annotations

import traceback
from pathlib import Path

from lumirkit.base.errors import KitError

_SPEAKING = (KitError, OSError, MemoryError, RuntimeError)  # RuntimeError: whatever goes wrong in torch


def reason_of(error: Exception, work: str) -> str:
    """The reason in one sentence; that of an error which nobody foresaw names the work and the line of code.

    Args:
        work: what failed, by its files.
    """
    if isinstance(error, _SPEAKING):
        return str(error) or type(error).__name__
    last = traceback.extract_tb(error.__traceback__)[-1:]
    line = "".join(f" in {Path(frame.filename).name}, line {frame.lineno}" for frame in last)
    what = str(error).partition("\n")[0].rstrip(".")
    return f"{work}: failed unforeseen ({type(error).__name__}{line}: {what}). Check these files, or leave them out."


def traceback_of(error: Exception) -> str:
    """The traceback of an error that the kit did not raise itself; empty where the reason says all."""
    return "" if isinstance(error, KitError) else "".join(traceback.format_exception(error))
