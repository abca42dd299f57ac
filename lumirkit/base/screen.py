"""What the screen shows: remarks beside the results, and names of files that are no text."""

from __future__ import annotations

import io
import sys


def say_to_stderr(text: str) -> None:
    """Print a remark or a warning where it does not mix with results, at once."""
    print(text, file=sys.stderr, flush=True)


def show_every_name() -> None:
    """Let standard output show names of files that are no text, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
