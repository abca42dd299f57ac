"""The table of leaderboard results that is printed after scoring."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from lumirkit.eval.leaderboard import DICE_KEYS, Aggregate, LeaderboardResult
from lumirkit.eval.measures import OFFICIAL_MEASURES, ambiguous
from lumirkit.eval.tables.columns import COLUMNS, Column

_MISSING = "–"


def summary_table(rows: Mapping[str, LeaderboardResult]) -> Table:
    """One line a row (its name is the key), one column of the leaderboard each, as mean (std) over the cases.

    The numbers are the organisers' aggregates, inf and NaN included; a dash stands where a result lacks the metric.

    Raises:
        EvaluationError: two metrics of a config belong into one column, and their aggregates differ.
    """
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption="mean (std) over pairs; distances in voxels"
    )
    table.add_column("method", no_wrap=True)
    for column in COLUMNS:
        table.add_column(_heading(column), justify="right")
    for row, result in rows.items():
        table.add_row(row, *(_cell(row, column, result) for column in COLUMNS))
    return table


def _heading(column: Column) -> str:
    """The column's heading; the split stands on lines of its own, so that the table fits a narrow terminal."""
    split = [] if column.split is None else ["-\n".join(column.split.rsplit("-", 1))]
    return "\n".join([column.with_unit(column.name), *split])


def _cell(row: str, column: Column, result: LeaderboardResult) -> str:
    printed = {
        metric: f"{column.text(aggregate['mean'])} ({column.text(aggregate['std'])})"
        for metric, aggregate in _aggregates(column, result).items()
    }
    if len(set(printed.values())) > 1:
        raise ambiguous(row, column.heading, list(printed))
    return next(iter(printed.values()), _MISSING)


def _aggregates(column: Column, result: LeaderboardResult) -> dict[str, Aggregate]:
    """The organisers' aggregates that belong into a column, by name: one for the Dice of a split, one a metric else."""
    if column.split is not None:
        names = [DICE_KEYS[column.split]]
    else:
        names = [name for name, kind in result.kinds.items() if OFFICIAL_MEASURES[kind] == column.measure]
    return {name: result.aggregates[name] for name in names if name in result.aggregates}
