"""What standard output can show."""

from __future__ import annotations

import io
import sys


def show_every_name() -> None:
    """Let standard output show names of files that are no text, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
