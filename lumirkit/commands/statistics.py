"""`lumirkit statistics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Columns, Metrics
from lumirkit.eval.tables.column_set import ColumnSet


def statistics(
    metrics: Metrics,
    out: Annotated[Path, typer.Option(help="Folder for comparisons.csv, intervals.csv and ranking.csv.")],
    compare: Annotated[
        list[str] | None, typer.Option(help="A:B tests row A against row B; each against the one before if absent.")
    ] = None,
    designs: Annotated[bool, typer.Option(help="Tukey and Mann-Whitney tests between all rows, too.")] = False,
    columns: Columns = ColumnSet.LEADERBOARD,
) -> None:
    """Say what chance has to do with a table: paired tests, intervals, ranks."""
    from rich.console import Console

    from lumirkit.eval.statistics.screen import comparison_view, ranking_view
    from lumirkit.eval.statistics.write import write_statistics
    from lumirkit.eval.tables.columns import columns_in
    from lumirkit.eval.tables.rows import read_rows

    tables = write_statistics(metrics, out, compare or [], designs, columns)
    shown = columns_in(columns, read_rows(metrics))
    Console().print(comparison_view(tables["comparisons"], shown), ranking_view(tables["ranking"]))
