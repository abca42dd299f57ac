"""`lumirkit table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Columns, Metrics
from lumirkit.eval.tables.column_set import ColumnSet


def table(
    metrics: Metrics,
    out: Annotated[list[Path], typer.Option(help="Table to write: .md, .tex (booktabs) or .csv.")],
    published: Annotated[bool, typer.Option(help="Add the paper's own rows, as references.")] = False,
    columns: Columns = ColumnSet.LEADERBOARD,
) -> None:
    """Write the table of several scored methods."""
    from lumirkit.eval.tables.write import write_table

    print(write_table(metrics, out, published, columns).as_text("md"))
