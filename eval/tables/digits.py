"""The digits that numbers are printed in."""

from __future__ import annotations

import math


def two_digits(value: float) -> str:
    """Two significant digits, as the papers print NDV: 0.015, 0.0022, 3.2e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e-3:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def one_decimal(value: float) -> str:
    """One digit after the point."""
    return f"{value:.1f}"


def two_decimals(value: float) -> str:
    """Two digits after the point."""
    return f"{value:.2f}"


def three_decimals(value: float) -> str:
    """Three digits after the point."""
    return f"{value:.3f}"
