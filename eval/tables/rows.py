"""Scored methods beside each other: what `metrics.json` files say case by case, under the names that tables use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.scoring import by_measure

CARD_NAME = "row.json"
CaseKey = tuple[str, str]
"""Split and case name, such as ("in-domain", "3455_0000<--3454_0000")."""


class RowCard(BaseModel):
    """What a table says of a method beside its numbers; lies as `row.json` beside its metrics.json.

    `ingredients` get check marks; `is_reference` sets the row apart; `made_by` says what the numbers come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ingredients: tuple[str, ...] = ()
    is_reference: bool = False
    made_by: dict[str, Any] = {}


@dataclass(frozen=True)
class ScoredRow:
    """A method with every measure of every case, `cases[split, case name][measure]`; see `guarded.DEFINITIONS`."""

    card: RowCard
    cases: dict[CaseKey, dict[str, float]] = field(repr=False)

    @property
    def name(self) -> str:
        """Its row's name."""
        return self.card.name

    @classmethod
    def of_result(cls, card: RowCard, result: LeaderboardResult) -> ScoredRow:
        """The method that was scored just now."""
        return cls(card, _cases_of(result.guarded))


def read_rows(paths: Sequence[Path]) -> list[ScoredRow]:
    """Read metrics files, in their order; `NAME=metrics.json` names a row that has no `row.json` beside it.

    Raises:
        EvaluationError: a file cannot be used, two rows share a name, or the rows were scored on different cases.
    """
    methods = [_read_row(path) for path in paths]
    for number, (path, method) in enumerate(zip(paths, methods, strict=True)):
        for other, earlier in zip(paths[:number], methods[:number], strict=True):
            if method.name == earlier.name:
                raise EvaluationError(
                    f"{path}: its row is called {method.name}, as that of {other}. Name one: NAME={path}"
                )
    require_same_cases(methods)
    return methods


def require_same_cases(methods: Sequence[ScoredRow]) -> None:
    """Check that all methods were scored on the same cases, since means over different ones do not compare.

    Raises:
        EvaluationError: names the cases that differ.
    """
    for method in methods[1:]:
        first, found = methods[0], set(method.cases)
        expected = set(first.cases)
        differing = [
            f"{len(keys)} only in {owner}: {_list(sorted(keys))}"
            for owner, keys in ((method.name, found - expected), (first.name, expected - found))
            if keys
        ]
        if differing:
            raise EvaluationError(
                f"{method.name} and {first.name} were scored on different cases; {'; '.join(differing)}. "
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
        return RowCard.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, OSError) as error:
        raise EvaluationError(f"{file}: not the card of a row: {error}") from error


def _list(keys: Sequence[CaseKey]) -> str:
    shown = [f"{case} ({split})" for split, case in keys[:5]]
    return ", ".join([*shown, "…"] if len(keys) > len(shown) else shown)


def _read_row(path: Path) -> ScoredRow:
    name, separator, rest = str(path).partition("=")
    file = Path(rest) if separator else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        guarded = content["guarded"]
        failed = guarded["failed"]
        cases = _cases_of(guarded)
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


def _cases_of(guarded: dict[str, Any]) -> dict[CaseKey, dict[str, float]]:
    """`<method of the config>/<measure>` becomes `<measure>`: tables do not care what a config calls it."""
    return {
        (split, case): by_measure(measures)
        for split, of_split in guarded["cases"].items()
        for case, measures in of_split.items()
    }
