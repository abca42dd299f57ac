"""The logs of a training run: one line of numbers a step, or a validation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumirkit.base.errors import KitError

STEPS, VALIDATIONS = "log.jsonl", "validation.jsonl"
_WHOLE_NUMBERS = {STEPS: ("stage", "step"), VALIDATIONS: ("step",)}
"""What every line of a log must have."""


class TrainingLogError(KitError, ValueError):
    """A line of a log is damaged; the message says file, line, found, expected and what to do."""


@dataclass(frozen=True)
class LogLine:
    """One line of a log: its text without the line's end, and its numbers by name; None is one that was not known."""

    text: bytes
    numbers: dict[str, Any]


def read_log(path: Path) -> list[LogLine]:
    """Read the lines that were written to their end, but for blank ones; there are none where there is no file.

    Raises:
        TrainingLogError: a line is damaged.
    """
    if not path.exists():
        return []
    texts = path.read_bytes().split(b"\n")[:-1]
    return [LogLine(text, _numbers(path, number, text)) for number, text in enumerate(texts, 1) if text.strip()]


def _numbers(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if problem := _problem(entry, _WHOLE_NUMBERS[path.name]):
        raise TrainingLogError(
            f"{path}, line {number}: found {problem}; expected a JSON object of numbers, as `lumirkit train` writes "
            "one a line. Remove the line, or restore the file."
        )
    return entry


def _problem(entry: object, whole_numbers: tuple[str, ...]) -> str:
    """What is wrong with the content of a line; empty where nothing is."""
    if not isinstance(entry, dict):
        return "no JSON object"
    wrong = [name for name in whole_numbers if not isinstance(entry.get(name), int)]
    if wrong:
        return f"no whole number for {' and '.join(wrong)}"
    wrong = [name for name, value in entry.items() if not isinstance(value, int | float | None)]
    return f"no number for {' and '.join(wrong)}" if wrong else ""
