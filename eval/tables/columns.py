"""The columns of a table: the case values that each is the mean of, its heading, and the digits it is printed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.data_manifests.evaluation_config import Split, is_official
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.digits import one_decimal, three_decimals, two_decimals, two_digits
from lumirkit.eval.tables.rows import CaseKey, ScoredRow


@dataclass(frozen=True)
class Column:
    """One measure over the cases of one split, or of all the challenge's; `unit` is empty where there is none."""

    key: str
    name: str
    measure: str
    split: str | None
    high_is_better: bool
    unit: str
    scale: float
    number: Callable[[float], str]
    """The printed form of a value, already scaled."""

    @property
    def arrow(self) -> str:
        """The arrow that says which way is better."""
        return "↑" if self.high_is_better else "↓"

    @property
    def heading(self) -> str:
        """The name, with the split where the column is of one."""
        return self.name if self.split is None else f"{self.name} {self.split}"

    @property
    def title(self) -> str:
        """The heading with its unit."""
        return self.with_unit(self.heading)

    def with_unit(self, text: str) -> str:
        """The text followed by the unit; voxels are named beneath the table."""
        return text if self.unit in ("", "voxel") else f"{text} {self.unit}"

    def text(self, measured: float) -> str:
        """The printed form of a value as it was measured, not yet scaled."""
        return self.number(self.scale * measured)

    def keys(self, row: ScoredRow) -> list[CaseKey]:
        """The cases of the column; a pair that stands in two splits counts once, as on the leaderboard."""
        by_case = {
            case: (split, case)
            for split, case in row.cases
            if (is_official(split) if self.split is None else split == self.split)
            and row.value((split, case), self.measure) is not None
        }
        return list(by_case.values())

    def value(self, row: ScoredRow, key: CaseKey) -> float:
        """The scaled value of a case; NaN where nothing measured it."""
        measured = row.value(key, self.measure)
        return np.nan if measured is None else self.scale * measured

    def values(self, row: ScoredRow) -> Float64[ndarray, " cases"]:
        """The scaled value of every case, inf and NaN among them."""
        return np.array([self.value(row, key) for key in self.keys(row)], dtype=np.float64)

    def finite(self, row: ScoredRow) -> Float64[ndarray, " cases"]:
        """The values that are numbers."""
        values = self.values(row)
        return values[np.isfinite(values)]


COLUMNS = (
    Column("dice_in_domain", "Dice", "dice", Split.IN_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_out_of_domain", "Dice", "dice", Split.OUT_OF_DOMAIN, True, "%", 100, one_decimal),
    Column("dice_multi_modal", "Dice", "dice", Split.MULTI_MODAL, True, "%", 100, one_decimal),
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


def columns_in(column_set: ColumnSet, rows: Sequence[ScoredRow] = ()) -> tuple[Column, ...]:
    """The columns of a set, from left to right, then the same measures of every split of the user's own in the rows."""
    columns = DESIGN_COLUMNS if column_set is ColumnSet.DESIGNS else COLUMNS
    measures = {column.measure: column for column in columns}
    own = dict.fromkeys(split for row in rows for split, _ in row.cases if not is_official(split))
    return columns + tuple(
        replace(column, key=f"{split}/{measure}", split=split) for split in own for measure, column in measures.items()
    )


def columns_with_values(
    columns: Sequence[Column], rows: Sequence[ScoredRow], quantifier: Callable[[Iterable[bool]], bool] = any
) -> tuple[Column, ...]:
    """The columns that `any` of the rows has values for, or `all` of them.

    Raises:
        EvaluationError: there is none.
    """
    found = tuple(column for column in columns if quantifier(bool(column.keys(row)) for row in rows))
    if not found:
        raise EvaluationError(
            f"{', '.join(row.name for row in rows)}: found no values for {quantifier.__name__} of these rows in the "
            f"columns {', '.join(column.heading for column in columns)}; expected some. Score the fields again; "
            "`lumirkit evaluate --designs` measures what the columns `designs` show."
        )
    return found
