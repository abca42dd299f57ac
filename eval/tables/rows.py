"""Scored rows beside each other: what `metrics.json` files say case by case, under the names that tables use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lumirkit.base.refused import list_problems
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.measures import find_measure

CARD_NAME = "row.json"
CaseKey = tuple[str, str]
"""Split and case name, such as ("in-domain", "3455_0000<--3454_0000")."""


class RowCard(BaseModel):
    """The name and the remarks of a row beside its numbers; lies as `row.json` beside its metrics.json.

    `ingredients` get check marks; `is_reference` sets the row apart; `made_by` says what the numbers come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ingredients: tuple[str, ...] = ()
    is_reference: bool = False
    made_by: dict[str, Any] = {}


@dataclass(frozen=True)
class ScoredRow:
    """A row of tables, with every measure of every case: `cases[split, case name]["<metric name>/<measure>"]`.

    `guarded.DEFINITIONS` says what each measure is.
    """

    card: RowCard
    cases: dict[CaseKey, dict[str, float]] = field(repr=False)

    @property
    def name(self) -> str:
        """The row's name."""
        return self.card.name

    @classmethod
    def from_result(cls, card: RowCard, result: LeaderboardResult) -> ScoredRow:
        """The row of a result that was scored just now."""
        return cls(card, _cases(result.guarded))

    def value(self, key: CaseKey, measure: str) -> float | None:
        """The value of a measure in a case, whatever the config calls its metric; None where nothing measured it.

        Raises:
            EvaluationError: two metrics of the config have the measure, and their values differ.
        """
        split, case = key
        return find_measure(self.cases[key], measure, f"{self.name}, {case} ({split})")


def metrics_file(path: Path) -> Path:
    """The file of a row that may be named, `NAME=metrics.json`."""
    return Path(str(path).partition("=")[2] or path)


def read_rows(paths: Sequence[Path]) -> list[ScoredRow]:
    """Read metrics files, in their order; `NAME=metrics.json` names a row that has no `row.json` beside it.

    Raises:
        EvaluationError: a file cannot be used, two rows share a name, or the rows were scored on different cases.
    """
    rows = [_read_row(path) for path in paths]
    for number, (path, row) in enumerate(zip(paths, rows, strict=True)):
        for other, earlier in zip(paths[:number], rows[:number], strict=True):
            if row.name == earlier.name:
                raise EvaluationError(
                    f"{path}: its row is called {row.name}, as that of {other}. Name one: NAME={path}"
                )
    require_same_cases(rows)
    return rows


def require_same_cases(rows: Sequence[ScoredRow]) -> None:
    """Check that all rows were scored on the same cases, since means over different ones do not compare.

    Raises:
        EvaluationError: names the cases that differ.
    """
    for row in rows[1:]:
        first, found = rows[0], set(row.cases)
        expected = set(first.cases)
        differing = [
            f"{len(keys)} only in {owner}: {_list(sorted(keys))}"
            for owner, keys in ((row.name, found - expected), (first.name, expected - found))
            if keys
        ]
        if differing:
            raise EvaluationError(
                f"{row.name} and {first.name} were scored on different cases; {'; '.join(differing)}. "
                "Score both on the same ground truth."
            )


def read_card(folder: Path) -> RowCard | None:
    """The card of the row in a folder; None where there is none.

    Raises:
        EvaluationError: it cannot be used.
    """
    file = folder / CARD_NAME
    if not file.exists():
        return None
    try:
        return RowCard.model_validate_json(file.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror}); expected the card of a row.") from error
    except ValidationError as error:
        raise EvaluationError(f"{file}: not the card of a row; correct this:\n{list_problems(error)}") from error


def _list(keys: Sequence[CaseKey]) -> str:
    shown = [f"{case} ({split})" for split, case in keys[:5]]
    return ", ".join([*shown, "…"] if len(keys) > len(shown) else shown)


def _read_row(path: Path) -> ScoredRow:
    name, separator, _ = str(path).partition("=")
    file = metrics_file(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        guarded = content["guarded"]
        failed = guarded["failed"]
        cases = _cases(guarded)
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror}); expected a metrics.json.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{file}: not a metrics.json of `lumirkit evaluate` ({type(error).__name__}: {error}). "
            "The case values that tables need stand in its key `guarded`; score the fields again."
        ) from error
    if failed:
        raise EvaluationError(
            f"{file}: {len(failed)} cases could not be scored ({', '.join(list(failed)[:5])}); a mean over the others "
            "would not compare. Repair them and score again."
        )
    if separator:
        return ScoredRow(RowCard(name=name), cases)
    if (card := read_card(file.parent)) is not None:
        return ScoredRow(card, cases)
    return ScoredRow(RowCard(name=file.parent.name if file.stem == "metrics" else file.stem), cases)


def _cases(guarded: dict[str, Any]) -> dict[CaseKey, dict[str, float]]:
    return {
        (split, case): measures
        for split, split_cases in guarded["cases"].items()
        for case, measures in split_cases.items()
    }
