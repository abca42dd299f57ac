"""`lumirkit report`: fields scored (or found scored) and shown as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.engine import Processes
from lumirkit.base.errors import RequestError
from lumirkit.base.files import as_text, require_writable_file
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.evaluation_config import files_of
from lumirkit.eval.leaderboard import LeaderboardResult, ScoringOptions, evaluate
from lumirkit.eval.report.scores import write_report
from lumirkit.eval.tables.rows import CARD_NAME, RowCard, read_card

ZERO_FIELD = "zero field"


def report_fields(
    ground_truth: Path,
    fields: Sequence[str],
    out: Path,
    pairs_per_split: int,
    pairs: Sequence[str] = (),
    zero_field: bool = False,
    workers: int = 1,
) -> None:
    """Write the page of one or more sets of fields.

    Scored pairs are kept and found again: those of a row of an ablation in its folder, others beside the page.

    Args:
        fields: folders of fields, or NAME=folder; a `row.json` beside a folder names it too.
        pairs_per_split: how many pairs of each split are shown, the worst first.
        pairs: names, or parts of names, of pairs to show before those.
        workers: processes that score pairs at the same time.

    Raises:
        EvaluationError, RequestError: nothing was written.
    """
    require_writable_file(out)
    engine = Processes(workers)
    folders = [_named(text)[1] for text in fields]
    require_apart([out], [*files_of(ground_truth, *folders), *(folder.parent / CARD_NAME for folder in folders)])
    results: dict[str, LeaderboardResult] = {}
    cards: dict[str, RowCard] = {}
    for text in fields:
        card, folder = _named(text)
        if card.name in cards:
            raise RequestError(
                f"--fields {text}: another set of fields is called {card.name} too; name it, NAME=folder."
            )
        kept = folder.parent / "metrics.cases"
        options = ScoringOptions(cache=kept if kept.is_dir() else out.with_suffix(".cases") / card.name)
        cards[card.name] = card
        results[card.name] = evaluate(ground_truth, folder, engine, f"scoring {card.name}", options)
    if zero_field:
        cards[ZERO_FIELD] = RowCard(name=ZERO_FIELD, is_reference=True)
        options = ScoringOptions(cache=out.with_suffix(".cases") / ZERO_FIELD)
        results[ZERO_FIELD] = evaluate(ground_truth, None, engine, "scoring the zero field", options)
    write_report(out, results, cards, pairs_per_split, pairs)


def _named(text: str) -> tuple[RowCard, Path]:
    """Split a request into the folder and its name: as requested, as the card beside it says, or the folder's own."""
    name, separator, rest = text.partition("=")
    folder = Path(rest if separator else text)
    found = read_card(folder.parent)
    if found is None:
        return RowCard(name=as_text(name if separator else folder.name)), folder
    return (found.model_copy(update={"name": as_text(name)}) if separator else found), folder
