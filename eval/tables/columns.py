"""The columns of a table: which case values each is the mean of, and in which digits it is printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.data_manifests.evaluation import Split
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.tables.rows import CaseKey, ScoredRow


@dataclass(frozen=True)
class Column:
    """One metric over the cases of one split, or of all splits that have it; `unit` is empty where there is none."""

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

    @property
    def title(self) -> str:
        """The heading with its unit; voxels are named beneath the table."""
        return self.heading if self.unit in ("", "voxel") else f"{self.heading} {self.unit}"

    def keys(self, method: ScoredRow) -> list[CaseKey]:
        """The cases of the column; a pair that stands in two splits counts once, as on the leaderboard."""
        by_case = {
            case: (split, case)
            for split, case in method.cases
            if self.measure in method.cases[split, case] and self.split in (None, split)
        }
        return list(by_case.values())

    def values(self, method: ScoredRow) -> Float64[ndarray, " cases"]:
        """The scaled value of every case, inf and NaN among them."""
        return np.array([self.scale * method.cases[key][self.measure] for key in self.keys(method)], dtype=np.float64)

    def finite(self, method: ScoredRow) -> Float64[ndarray, " cases"]:
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


def three_decimals(value: float) -> str:
    """Three digits after the point."""
    return f"{value:.3f}"


COLUMNS = (
    Column("dice_in_domain", "Dice in-domain", "dice", Split.IN_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_out_of_domain", "Dice out-of-domain", "dice", Split.OUT_OF_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_multi_modal", "Dice multi-modal", "dice", Split.MULTI_MODAL, True, "%", 100, one_decimal),
    Column("tre", "TRE", "tre_vox", None, False, "voxel", 1, two_decimals),
    Column("hd95", "HdDist95", "hd95_vox", None, False, "voxel", 1, two_decimals),
    Column("ndv", "NDV", "ndv_percent", None, False, "%", 1, two_digits),
)

DESIGN_COLUMNS = (
    Column("ssim", "SSIM", "ssim", None, True, "", 1, three_decimals),
    Column("ncc", "NCC", "ncc", None, True, "", 1, three_decimals),
    Column("dsc", "DSC", "dice_without_background", None, True, "", 1, three_decimals),
    Column("hd", "HD", "hd100_without_background_vox", None, False, "voxel", 1, two_decimals),
    Column("hd95", "HD95", "hd95_without_background_vox", None, False, "voxel", 1, two_decimals),
    Column("tre", "TRE", "centroid_mm", None, False, "mm", 1, two_decimals),
    Column("time", "time", "seconds", None, False, "s", 1, two_decimals),
)


class ColumnSet(StrEnum):
    """What a table reports."""

    LEADERBOARD = "leaderboard"
    """As the challenge does."""
    DESIGNS = "designs"
    """As de Frutos et al. compare designs of training; `lumirkit evaluate --designs` measures it."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """From left to right."""
        return DESIGN_COLUMNS if self is ColumnSet.DESIGNS else COLUMNS

    @property
    def note(self) -> str:
        """What stands beneath the table."""
        if self is ColumnSet.DESIGNS:
            return "SSIM and NCC inside the brain; DSC, HD, HD95 (voxels) and TRE of centroids without background"
        return "distances in voxels"


def columns_with_values(
    columns: Sequence[Column], methods: Sequence[ScoredRow], of: Callable[[Iterable[bool]], bool] = any
) -> tuple[Column, ...]:
    """The columns that any of the methods has values for, or `all` of them.

    Raises:
        EvaluationError: there is none.
    """
    found = tuple(column for column in columns if of(bool(column.keys(method)) for method in methods))
    if not found:
        raise EvaluationError(
            f"{', '.join(method.name for method in methods)}: found no values for {of.__name__} of these rows in the "
            f"columns {', '.join(column.heading for column in columns)}; expected some. Score the fields again; "
            "`lumirkit evaluate --designs` measures what the columns `designs` show."
        )
    return found
