"""`lumirkit evaluate`: scores of a folder of fields, written to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lumirkit.base.engine import Engine
from lumirkit.base.files import require_writable_file, write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.evaluation_config import files_of
from lumirkit.eval.leaderboard import LeaderboardResult, ScoringOptions, evaluate
from lumirkit.eval.tables.measured import TABLE_NAMES, write_tables

REGISTERED, ZERO_FIELD = "registered", "zero field"


def score_fields(
    ground_truth: Path,
    fields: Path,
    out: Path,
    options: ScoringOptions,
    tables: Path | None = None,
    zero_field: bool = False,
    engine: Engine | None = None,
) -> dict[str, LeaderboardResult]:
    """Score a folder of fields, and write `out` (metrics.json) and the CSV tables.

    Scored pairs are kept beside `out` and found again, so that interrupted scoring continues.

    Returns:
        What was found, as `REGISTERED`; before it `ZERO_FIELD`, if that is asked for.

    Raises:
        EvaluationError, RequestError: nothing could be scored, or the result could not be written.
    """
    require_writable_file(out)
    own = [tables / f"{name}.csv" for name in TABLE_NAMES] if tables is not None else []
    require_apart([out, *own], files_of(ground_truth, fields, options.inverse_fields))
    kept = out.with_suffix(".cases")
    result = evaluate(ground_truth, fields, engine, options=replace(options, cache=kept))
    write_text_atomically(out, result.to_json())
    if tables is not None:
        write_tables(tables, result)
    if not zero_field:
        return {REGISTERED: result}
    unregistered = replace(options, inverse_fields=None, cache=kept / "zero-field")
    zero = evaluate(ground_truth, None, engine, "scoring the zero field", unregistered)
    return {ZERO_FIELD: zero, REGISTERED: result}
