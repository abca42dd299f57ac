"""`lumirkit evaluate`: scores written to files and shown as a table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lumirkit.base.files import require_writable, write_text_atomically
from lumirkit.eval.leaderboard import LeaderboardResult, ScoringOptions, evaluate
from lumirkit.eval.tables.measured import write_tables
from lumirkit.eval.tables.summary import summary_table


def score_and_show(
    ground_truth: Path,
    fields: Path,
    out: Path,
    options: ScoringOptions,
    tables: Path | None = None,
    zero_field: bool = False,
    workers: int = 1,
) -> LeaderboardResult:
    """Score a folder of fields, write `out` (metrics.json) and the CSV tables, and print the summary.

    Scored pairs are kept beside `out` and found again, so that interrupted scoring continues.

    Raises:
        EvaluationError, RequestError: nothing could be scored, or the result could not be written.
    """
    require_writable(out.parent)
    kept = out.with_suffix(".cases")
    result = evaluate(ground_truth, fields, workers, options=replace(options, cache=kept))
    write_text_atomically(out, result.to_json())
    if tables is not None:
        write_tables(tables, result)
    rows = {"registered": result}
    if zero_field:
        unregistered = replace(options, inverse_fields=None, cache=kept / "zero-field")
        zero = evaluate(ground_truth, None, workers, "scoring the zero field", unregistered)
        rows = {"zero field": zero} | rows
    Console().print(summary_table(rows))
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return result
