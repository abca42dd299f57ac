"""The weights that come with the kit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.errors import RequestError

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"


NO_WEIGHTS = Path("none")
"""What a user names to register without a network."""


def chosen_weights(named: Sequence[Path] | None) -> list[Path]:
    """The weights that a user names, or those that come with the kit; none where the user names `NO_WEIGHTS`.

    Raises:
        RequestError: other weights are named beside it.
    """
    if named and NO_WEIGHTS in named:
        if len(named) > 1:
            raise RequestError(
                f"--weights {NO_WEIGHTS}: found beside other weights; expected it alone, or only the others."
            )
        return []
    return [*named] if named else [SHIPPED_WEIGHTS]
