"""The report of one or more sets of fields: table, distributions, structures, and pairs in pictures, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumirkit.base.progress import Progress
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.report.charts import distribution_charts, structure_charts
from lumirkit.eval.report.page import write_page
from lumirkit.eval.report.pairs import named, show_pair, worst_first
from lumirkit.eval.statistics.significance import compare_pairs, consecutive
from lumirkit.eval.tables.paper import PaperTable, print_cell
from lumirkit.eval.tables.rows import RowCard, ScoredRow

CAPTIONS = {
    "fixed": "fixed",
    "moving": "moving",
    "warped": "warped",
    "checkerboard": "fixed and warped in squares",
    "warped - fixed": "warped − fixed: blue brighter, red darker",
    "labels": "label borders: orange fixed, cyan warped",
    "grid": "where the fixed grid comes from",
    "log-Jacobian": "log-Jacobian: red expands, blue shrinks, magenta folds",
}


def write_report(
    path: Path,
    results: Mapping[str, LeaderboardResult],
    cards: Mapping[str, RowCard],
    pairs_per_split: int,
    pairs: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        results: the result of every row, by name; the pairs shown are the worst ones of the first.
        cards: the cards of the rows, by name.
        pairs_per_split: how many pairs of each split are shown in pictures.
        pairs: names, or parts of names, of pairs to show before those.

    Raises:
        EvaluationError: a row has cases that could not be scored, the rows have different cases, or a pair is not among
            them.
    """
    for name, result in results.items():
        if result.failures:
            reasons = "\n  ".join(f"{case}: {reason}" for case, reason in result.failures.items())
            raise EvaluationError(f"{name}: cases could not be scored, so there is no report:\n  {reasons}")
    rows = [ScoredRow.from_result(cards[name], result) for name, result in results.items()]
    table = PaperTable.of(rows)
    first = next(iter(results.values()))
    chosen = named(first, pairs)
    chosen += [case for case in worst_first(first, pairs_per_split) if case not in chosen]
    shown = []
    with Progress(len(chosen), "drawing pairs") as progress:
        for case in chosen:
            shown.append(show_pair(case, results))
            progress.advance(case.name)
    write_page(
        path,
        "report.html.j2",
        title=" and ".join(results) if len(results) < 3 else f"{len(results)} sets of fields",
        table=table,
        cell=print_cell,
        comparisons=_comparisons(rows, table),
        distributions=distribution_charts(rows),
        structures=structure_charts(results),
        pairs=shown,
        captions=CAPTIONS,
        guarded={name: result.guarded for name, result in results.items()},
    )


def _comparisons(rows: list[ScoredRow], table: PaperTable) -> list[dict[str, Any]]:
    """Comparisons of each row with the one before it, column by column."""
    pairs = consecutive(rows)
    if not pairs:
        return []
    frame = compare_pairs(rows, pairs)
    lines = []
    for first, second in pairs:
        found = frame[(frame["first"] == first) & (frame["second"] == second)].set_index("column")
        cells = [found.loc[column.key].to_dict() if column.key in found.index else None for column in table.columns]
        lines.append({"first": first, "second": second, "cells": cells})
    return lines
