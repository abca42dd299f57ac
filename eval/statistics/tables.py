"""`lumirkit statistics`: tests, intervals and ranks of several methods, as CSV files and on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable, write_text_atomically
from lumirkit.eval.statistics.tests import compare_designs, compare_pairs, consecutive, intervals, ranking
from lumirkit.eval.tables.columns import Column, ColumnSet
from lumirkit.eval.tables.rows import ScoredRow, read_rows


def write_statistics(
    metrics: Sequence[Path],
    out: Path,
    pairs: Sequence[str] = (),
    designs: bool = False,
    columns: ColumnSet = ColumnSet.LEADERBOARD,
) -> None:
    """Write `comparisons.csv`, `intervals.csv`, `ranking.csv` (and `designs.csv`) into `out`, and print the gist.

    Args:
        metrics: metrics.json of each row, as of `lumirkit table`.
        pairs: `A:B` for each comparison of row A against row B; each row against the one before where there is none.
        designs: also the tests of the sibling paper, which treat the cases as independent samples.
        columns: what is tested, those of them that all rows have.

    Raises:
        EvaluationError, RequestError: the request cannot be carried out; nothing was written.
    """
    require_writable(out)
    methods = read_rows(metrics)
    tables = statistics_of(methods, [_pair(text) for text in pairs], designs, columns)
    for name, table in tables.items():
        write_text_atomically(out / f"{name}.csv", table.to_csv(index=False))
    Console().print(_comparison_view(tables["comparisons"], columns.columns), _ranking_view(tables["ranking"]))


def statistics_of(
    methods: Sequence[ScoredRow],
    pairs: Sequence[tuple[str, str]] = (),
    designs: bool = False,
    columns: ColumnSet = ColumnSet.LEADERBOARD,
) -> dict[str, pd.DataFrame]:
    """The tables by the names of their files."""
    tables = {
        "comparisons": compare_pairs(methods, pairs or consecutive(methods), columns.columns),
        "intervals": intervals(methods, columns.columns),
        "ranking": ranking(methods, columns.columns),
    }
    return tables | ({"designs": compare_designs(methods, columns.columns)} if designs else {})


def _pair(text: str) -> tuple[str, str]:
    first, separator, second = text.partition(":")
    if not separator:
        raise RequestError(f"--compare {text}: found no ':'; expected two rows, such as +MIND:baseline")
    return first, second


def _comparison_view(comparisons: pd.DataFrame, columns: Sequence[Column]) -> Table:
    """One line a pair of rows, one column a metric: difference of means, and Holm's p."""
    view = Table(
        title="difference of means (Wilcoxon signed-rank p, Holm over a column)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    view.add_column("rows")
    shown = [column for column in columns if column.key in set(comparisons["column"])]
    for column in shown:
        view.add_column(f"{column.heading} {column.arrow}", justify="right")
    for (first, second), of_pair in comparisons.groupby(["first", "second"], sort=False):
        by_column = of_pair.set_index("column")
        found = [by_column.loc[column.key] for column in shown]
        cells = [f"{line['difference']:+.2g} ({line['p_holm']:.2g})" for line in found]
        view.add_row(f"{first} : {second}", *cells)
    return view


def _ranking_view(scores: pd.DataFrame) -> Table:
    view = Table(title="the challenge's ranking score", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("row")
    view.add_column("score", justify="right")
    for row, score in zip(scores["row"], scores["score"], strict=True):
        view.add_row(row, f"{score:.3f}")
    return view
