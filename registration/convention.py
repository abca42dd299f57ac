"""What the numbers of a field file mean; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class Convention(StrEnum):
    """The convention that a field file is written in."""

    CHALLENGE = "challenge"
    """(X, Y, Z, 3): voxels of the one grid that both images share, in array-axis order; headers play no part."""
    ITK = "itk"
    """(X, Y, Z, 1, 3): LPS mm on the fixed grid, wherever the moving grid lies; both where ITK sees them."""
