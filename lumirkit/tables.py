"""`lumirkit table`: metrics files of several methods as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data_manifests.worklist import RequestError, require_writable
from eval.columns import ColumnSet
from eval.methods import read_methods
from eval.paper_table import PaperTable
from eval.published import published_rows


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
    table = PaperTable.of(read_methods(metrics), published_rows() if published else (), columns)
    for path in out:
        table.write(path)
    Console().print(table.as_text("md"), markup=False, highlight=False, soft_wrap=True)
