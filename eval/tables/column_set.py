"""Which columns a table has; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class ColumnSet(StrEnum):
    """What a table reports."""

    LEADERBOARD = "leaderboard"
    """The table reports what the challenge's leaderboard does."""
    DESIGNS = "designs"
    """The table compares designs of training as de Frutos et al. do; `lumirkit evaluate --designs` measures it."""

    @property
    def note(self) -> str:
        """What stands beneath the table."""
        if self is ColumnSet.DESIGNS:
            return "SSIM and NCC inside the brain; DSC, HD, HD95 (voxels) and TRE of centroids without background"
        return "distances in voxels"
