"""What a run does about a pair that fails; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class OnError(StrEnum):
    """What a pair that cannot be registered means for the run."""

    STOP = "stop"
    """The run ends at once."""
    SKIP = "skip"
    """The run does the other pairs; this one has no field."""
    ZERO = "zero"
    """The run does the other pairs; a zero field that says so stands for this one."""
