"""What all parts of a recipe have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Values that are checked when they are read and do not change afterwards; a key that nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
