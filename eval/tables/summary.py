"""The table of leaderboard results that is printed after scoring."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from lumirkit.data_manifests.evaluation_config import Split, is_official
from lumirkit.eval.leaderboard import DICE_KEYS, Aggregate, LeaderboardResult, aggregate
from lumirkit.eval.measures import OFFICIAL_MEASURES, ambiguous
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.columns import COLUMNS, Column, columns_in
from lumirkit.eval.tables.rows import RowCard, ScoredRow

_MISSING = "–"


def summary_table(rows: Mapping[str, LeaderboardResult]) -> Table:
    """One line a column of the leaderboard, one column a row (its name is the key), as mean (std) over the cases.

    It stands so, and not as the leaderboard does, since few rows have many numbers: it fits a narrow terminal.
    The numbers are the organisers' aggregates, inf and NaN included; a dash stands where a result lacks the metric.

    Raises:
        EvaluationError: two metrics of a config belong into one column, and their aggregates differ.
    """
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption="mean (std) over pairs; distances in voxels"
    )
    table.add_column("")
    for row in rows:
        table.add_column(row, justify="right")
    scored = {row: ScoredRow.from_result(RowCard(name=row), result) for row, result in rows.items()}
    own = columns_in(ColumnSet.LEADERBOARD, list(scored.values()))[len(COLUMNS) :]
    own = tuple(column for column in own if any(map(column.keys, scored.values())))
    only_own = own and all(not is_official(split) for row in scored.values() for split, _ in row.cases)
    for column in () if only_own else COLUMNS:
        table.add_row(column.title, *(_cell(row, column, result) for row, result in rows.items()))
    for column in own:
        table.add_row(column.title, *(_own_cell(column, row) for row in scored.values()))
    return table


def _cell(row: str, column: Column, result: LeaderboardResult) -> str:
    printed = {
        metric: f"{column.text(aggregate['mean'])} ({column.text(aggregate['std'])})"
        for metric, aggregate in _aggregates(column, result).items()
    }
    if len(set(printed.values())) > 1:
        raise ambiguous(row, column.heading, list(printed))
    return next(iter(printed.values()), _MISSING)


def _own_cell(column: Column, row: ScoredRow) -> str:
    """The cell of a split of the user's own, which the organisers have no aggregates of: inf and NaN count here too."""
    measured = [value for key in column.keys(row) if (value := row.value(key, column.measure)) is not None]
    if not measured:
        return _MISSING
    found = aggregate(measured, high_is_worse=not column.high_is_better)
    return f"{column.text(found['mean'])} ({column.text(found['std'])})"


def _aggregates(column: Column, result: LeaderboardResult) -> dict[str, Aggregate]:
    """The organisers' aggregates that belong into a column, by name: one for the Dice of a split, one a metric else."""
    if isinstance(column.split, Split):
        names = [DICE_KEYS[column.split]]
    else:
        names = [name for name, kind in result.kinds.items() if OFFICIAL_MEASURES[kind] == column.measure]
    return {name: result.aggregates[name] for name in names if name in result.aggregates}
