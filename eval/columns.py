"""The columns of the leaderboard's table: which case values each is the mean of, and in which digits it is printed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from data_manifests.evaluation import Split
from eval.methods import CaseKey, Method


@dataclass(frozen=True)
class Column:
    """One metric over the cases of one split, or of all splits that have it."""

    key: str
    heading: str
    measure: str
    split: Split | None
    high_is_better: bool
    unit: str
    scale: float
    number: Callable[[float], str]
    """The printed form of a value, already scaled."""

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.high_is_better else "↓"

    def keys(self, method: Method) -> list[CaseKey]:
        """The cases of the column; a pair that stands in two splits counts once, as on the leaderboard."""
        by_case = {
            case: (split, case)
            for split, case in method.cases
            if self.measure in method.cases[split, case] and self.split in (None, split)
        }
        return list(by_case.values())

    def values(self, method: Method) -> Float64[ndarray, " cases"]:
        """The scaled value of every case, inf and NaN among them."""
        return np.array([self.scale * method.cases[key][self.measure] for key in self.keys(method)], dtype=np.float64)

    def finite(self, method: Method) -> Float64[ndarray, " cases"]:
        """The values that are numbers."""
        values = self.values(method)
        return values[np.isfinite(values)]


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


COLUMNS = (
    Column("dice_in_domain", "Dice in-domain", "dice", Split.IN_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_out_of_domain", "Dice out-of-domain", "dice", Split.OUT_OF_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_multi_modal", "Dice multi-modal", "dice", Split.MULTI_MODAL, True, "%", 100, one_decimal),
    Column("tre", "TRE", "tre_vox", None, False, "voxel", 1, two_decimals),
    Column("hd95", "HdDist95", "hd95_vox", None, False, "voxel", 1, two_decimals),
    Column("ndv", "NDV", "ndv_percent", None, False, "%", 1, two_digits),
)
