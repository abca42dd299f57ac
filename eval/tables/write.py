"""`lumirkit table`: metrics files of several methods as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.paper import PaperTable
from lumirkit.eval.tables.published import published_rows
from lumirkit.eval.tables.rows import read_rows


def write_table(
    metrics: Sequence[Path],
    out: Sequence[Path],
    published: bool = False,
    columns: ColumnSet = ColumnSet.LEADERBOARD,
) -> None:
    """Write one file for every path of `out`, in the form that its ending names, and print the Markdown.

    Raises:
        EvaluationError, RequestError: a file cannot be used; nothing was written.
    """
    if published and columns is not ColumnSet.LEADERBOARD:
        raise RequestError(f"--published --columns {columns}: the paper's rows have the leaderboard's columns alone.")
    for path in out:
        require_writable(path.parent)
    table = PaperTable.of(read_rows(metrics), published_rows() if published else (), columns)
    for path in out:
        table.write(path)
    Console().print(table.as_text("md"), markup=False, highlight=False, soft_wrap=True)
