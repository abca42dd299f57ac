"""The base classes of all parts of a recipe."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Values that are checked when they are read and do not change afterwards.

    A key that nobody knows is refused, and so are NaN and infinite numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ranges(Settings):
    """Settings whose pairs of numbers are ranges to draw from."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: found {list(value)}; expected the smaller number first")
        return self
