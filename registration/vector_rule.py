"""What becomes of vectors that a field carries."""

from __future__ import annotations

from enum import StrEnum


class VectorRule(StrEnum):
    """The rule by which a warp treats the values of a vector image."""

    KEEP = "keep"
    """Every component is carried as an image of its own."""
    ROTATE = "rotate"
    """The vectors turn as the field turns the tissue around them."""
