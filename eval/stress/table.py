"""What was measured under stress, as rows: every pair, and means over pairs beside those of the undisturbed scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.eval.stress.disturbances import DISTURBANCES
from lumirkit.eval.tables.digits import one_decimal, two_digits

UNDISTURBED = "none"
_FAILED = "failed"
_PAIR = ["method", "split", "pair"]
_KEYS = ["method", "disturbance", "strength"]


@dataclass(frozen=True)
class Measured:
    """One method on one pair under one disturbance."""

    method: str
    disturbance: str
    """Its name, or UNDISTURBED."""
    strength: float
    """In the unit of the disturbance; 0 where there is none."""
    split: str
    pair: str
    dice_percent: float
    ndv_percent: float
    seconds: float
    """Of the registration alone, without reading the files."""


def pair_rows(measured: Sequence[Measured]) -> pd.DataFrame:
    """One row a method, disturbance, strength and pair, with what the disturbance changed in `dice_change`.

    The change is the Dice minus that of the same method on the same pair undisturbed; NaN where that one failed.
    """
    rows = pd.DataFrame([asdict(each) for each in measured])
    undisturbed = rows[rows["disturbance"] == UNDISTURBED].set_index(_PAIR)["dice_percent"]
    before = undisturbed.reindex(pd.MultiIndex.from_frame(rows[_PAIR])).to_numpy()
    return rows.assign(dice_change=rows["dice_percent"] - before)


def mean_rows(pairs: pd.DataFrame, settings: Sequence[tuple[str, float]], methods: Sequence[str]) -> pd.DataFrame:
    """One row a method, disturbance and strength: means over the pairs that did not fail, and how many these are.

    Args:
        pairs: see `pair_rows`.
        settings: disturbances and strengths, in the order of the rows; one that failed for all pairs has means of NaN.
        methods: their names, in the order of the rows of a setting.
    """
    grouped = pairs.groupby(_KEYS, sort=False)
    means = grouped[["dice_percent", "dice_change", "ndv_percent", "seconds"]].mean()
    means["pairs"] = grouped.size()
    asked_for = [(method, *setting) for setting in settings for method in methods]
    means = means.reindex(pd.MultiIndex.from_tuples(asked_for, names=_KEYS))
    found = means.fillna({"pairs": 0}).astype({"pairs": int}).reset_index()
    units = [DISTURBANCES[name].unit if name in DISTURBANCES else "" for name in found["disturbance"]]
    found.insert(3, "unit", units)
    return found


@dataclass(frozen=True)
class TextTable:
    """A table as text: headings, and rows of cells under them; disturbance and strength, then a number a method."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """The table with its title above it."""
        ruler = ["---", "---", *["--:"] * (len(self.headings) - 2)]
        lines = [self.headings, ruler, *self.rows]
        return "\n".join([self.title, "", *(f"| {' | '.join(cells)} |" for cells in map(_escaped, lines))]) + "\n"


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def text_tables(means: pd.DataFrame, pairs: int) -> list[TextTable]:
    """Dice, NDV and seconds: a row a disturbance and strength, a column a method.

    Args:
        means: see `mean_rows`.
        pairs: how many pairs were to be registered; a mean over fewer says so.
    """

    def dice(row: pd.Series) -> str:
        known = row["disturbance"] != UNDISTURBED and np.isfinite(row["dice_change"])
        return one_decimal(row["dice_percent"]) + (f" ({row['dice_change']:+.1f})" if known else "")

    over = _pairs(pairs)
    numbers: list[tuple[str, Callable[[pd.Series], str]]] = [
        (f"Mean Dice % of {over} (change against the undisturbed pairs)", dice),
        (f"Mean NDV % of {over}", lambda row: two_digits(row["ndv_percent"])),
        (f"Mean seconds a pair, of {over}", lambda row: one_decimal(row["seconds"])),
    ]
    return [_table(means, title, number, pairs) for title, number in numbers]


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _table(means: pd.DataFrame, title: str, number: Callable[[pd.Series], str], pairs: int) -> TextTable:
    def cell(row: pd.Series) -> str:
        if not row["pairs"]:
            return _FAILED
        return number(row) + (f" of {_pairs(row['pairs'])}" if row["pairs"] < pairs else "")

    methods = list(dict.fromkeys(means["method"]))
    rows = []
    for (disturbance, strength, unit), found in means.groupby(["disturbance", "strength", "unit"], sort=False):
        cells = {row["method"]: cell(row) for _, row in found.iterrows()}
        amount = "" if disturbance == UNDISTURBED else f"{strength:g} {unit}"
        rows.append((str(disturbance), amount, *(cells[method] for method in methods)))
    return TextTable(title, ("disturbance", "strength", *methods), tuple(rows))


def curve_of(
    means: pd.DataFrame, method: str, disturbance: str
) -> tuple[Float64[ndarray, " strengths"], Float64[ndarray, " strengths"]]:
    """Strengths and mean Dice of a method under a disturbance, the undisturbed pairs at its neutral strength.

    Strengths at which all pairs failed are left out.
    """
    of_method = means[(means["method"] == method) & (means["pairs"] > 0)]
    own = of_method[of_method["disturbance"].isin([UNDISTURBED, disturbance])]
    neutral = DISTURBANCES[disturbance].neutral
    strengths = np.where(own["disturbance"] == UNDISTURBED, neutral, own["strength"])
    order = np.argsort(strengths)
    return strengths[order], own["dice_percent"].to_numpy()[order]
