"""Tests, intervals and ranks of several methods, as tables and as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable, write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.eval.statistics.significance import compare_designs, compare_pairs, consecutive, intervals, ranking
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.columns import columns_in
from lumirkit.eval.tables.rows import ScoredRow, metrics_file, read_rows

_NAMES = ("comparisons", "intervals", "ranking", "designs")


def write_statistics(
    metrics: Sequence[Path],
    out: Path,
    pairs: Sequence[str] = (),
    designs: bool = False,
    column_set: ColumnSet = ColumnSet.LEADERBOARD,
) -> dict[str, pd.DataFrame]:
    """Write `comparisons.csv`, `intervals.csv`, `ranking.csv` (and `designs.csv`) into `out`.

    Args:
        metrics: metrics.json of each row, as `lumirkit table` takes them.
        pairs: `A:B` for each comparison of row A against row B; each row against the one before where there is none.
        designs: also the tests of the sibling paper, which treat the cases as independent samples.
        column_set: what is tested; columns that not all rows have are left out.

    Returns:
        The tables by the names of their files.

    Raises:
        EvaluationError, RequestError: the request cannot be carried out; nothing was written.
    """
    require_writable(out)
    require_apart([out / f"{name}.csv" for name in _NAMES], map(metrics_file, metrics))
    methods = read_rows(metrics)
    tables = make_statistics(methods, [_pair(text) for text in pairs], designs, column_set)
    for name, table in tables.items():
        write_text_atomically(out / f"{name}.csv", table.to_csv(index=False))
    return tables


def make_statistics(
    methods: Sequence[ScoredRow],
    pairs: Sequence[tuple[str, str]] = (),
    designs: bool = False,
    column_set: ColumnSet = ColumnSet.LEADERBOARD,
) -> dict[str, pd.DataFrame]:
    """Make the tables; the keys are the names of their files."""
    columns = columns_in(column_set, methods)
    task = [column for column in columns_in(column_set) if any(map(column.keys, methods))]
    tables = [
        compare_pairs(methods, pairs or consecutive(methods), columns),
        intervals(methods, columns),
        ranking(methods, task or columns),
    ]
    return dict(zip(_NAMES, [*tables, *([compare_designs(methods, columns)] if designs else [])], strict=False))


def _pair(text: str) -> tuple[str, str]:
    first, separator, second = text.partition(":")
    if not separator:
        raise RequestError(f"--compare {text}: found no ':'; expected two rows, such as +MIND:baseline")
    return first, second
