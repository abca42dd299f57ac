"""The weights that come with the kit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"


NO_WEIGHTS = Path("none")
"""What a user names to register without a network."""


def chosen_weights(named: Sequence[Path] | None) -> list[Path]:
    """The weights that a user names, or those that come with the kit; none where the user names `NO_WEIGHTS` alone."""
    if named and [*named] == [NO_WEIGHTS]:
        return []
    return [*named] if named else [SHIPPED_WEIGHTS]
