"""The number format that a network computes in; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """The number format of convolutions and features; fields, statistics and weights stay in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class PrecisionChoice(StrEnum):
    """What a user may ask for: a number format, or the one that the device at hand is made for."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
