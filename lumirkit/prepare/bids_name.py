"""Names of BIDS: entities and a suffix between underscores, as in `sub-01_ses-a_run-2_T1w`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_ENTITY = re.compile(r"(?P<key>[a-z]+)-(?P<label>[0-9a-zA-Z+]+)")


@dataclass(frozen=True)
class BidsName:
    """The name of a file without its extension."""

    entities: Mapping[str, str]
    """The label of each key, in the order of the name."""
    suffix: str

    @classmethod
    def parse(cls, stem: str) -> Self | None:
        """Read a name; None where it is none of BIDS."""
        *parts, suffix = stem.split("_")
        found = [_ENTITY.fullmatch(part) for part in parts]
        entities = {match["key"]: match["label"] for match in found if match is not None}
        if "sub" not in entities or len(entities) != len(parts) or not suffix.isalnum():
            return None
        return cls(entities, suffix)

    @property
    def visit(self) -> str:
        """The subject with its session, such as `sub-01_ses-a`."""
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    def __str__(self) -> str:
        return "_".join([*(f"{key}-{label}" for key, label in self.entities.items()), self.suffix])
