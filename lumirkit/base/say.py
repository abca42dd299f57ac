"""Remarks and warnings, where they do not mix with results."""

from __future__ import annotations

import sys


def say_to_stderr(text: str) -> None:
    """Print a remark to the standard error stream, at once."""
    print(text, file=sys.stderr, flush=True)
