"""`lumirkit table`: metrics files of several methods as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable_file
from lumirkit.base.outputs import require_apart
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.paper import PaperTable
from lumirkit.eval.tables.published import published_rows
from lumirkit.eval.tables.rows import metrics_file, read_rows


def write_table(
    metrics: Sequence[Path],
    out: Sequence[Path],
    published: bool = False,
    columns: ColumnSet = ColumnSet.LEADERBOARD,
) -> PaperTable:
    """Write one file for every path of `out`, in the form that its ending names; returns the table.

    Raises:
        EvaluationError, RequestError: a file cannot be used; nothing was written.
    """
    if published and columns is not ColumnSet.LEADERBOARD:
        raise RequestError(f"--published --columns {columns}: the paper's rows have the leaderboard's columns alone.")
    for path in out:
        require_writable_file(path)
    require_apart(out, map(metrics_file, metrics))
    table = PaperTable.of(read_rows(metrics), published_rows() if published else (), columns)
    for path in out:
        table.write(path)
    return table
