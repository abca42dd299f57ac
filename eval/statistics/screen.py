"""The gist of the statistics for people to read on a screen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.table import Table

from lumirkit.eval.tables.columns import Column


def comparison_view(comparisons: pd.DataFrame, columns: Sequence[Column]) -> Table:
    """One line a pair of rows, one column a metric: the difference of means, and Holm's p."""
    view = _view("difference of means (Wilcoxon signed-rank p, Holm over a column)")
    view.add_column("rows")
    shown = [column for column in columns if column.key in set(comparisons["column"])]
    for column in shown:
        view.add_column(f"{column.heading} {column.arrow}", justify="right")
    for (first, second), lines in comparisons.groupby(["first", "second"], sort=False):
        by_column = lines.set_index("column")
        found = [by_column.loc[column.key] for column in shown]
        cells = [f"{line['difference']:+.2g} ({line['p_holm']:.2g})" for line in found]
        view.add_row(f"{first} : {second}", *cells)
    return view


def ranking_view(scores: pd.DataFrame) -> Table:
    """One line a row of the table: its score in the challenge's ranking, the best first."""
    view = _view("the challenge's ranking score")
    view.add_column("row")
    view.add_column("score", justify="right")
    for row, score in zip(scores["row"], scores["score"], strict=True):
        view.add_row(row, f"{score:.3f}")
    return view


def _view(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
