"""What a check reports: one finding per problem, and the report that gathers them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Severity(StrEnum):
    """An error makes a run fail or a score wrong; a warning is something that a person should know."""

    ERROR = "error"
    WARNING = "warning"


class Finding(BaseModel):
    """One problem: in which file, what was found, what was expected and what to do about it."""

    model_config = ConfigDict(frozen=True)

    severity: Severity
    file: str
    found: str
    expected: str
    remedy: str


class CheckReport(BaseModel):
    """Everything that was found in a dataset folder, errors first."""

    model_config = ConfigDict(frozen=True)

    root: Path
    task: str | None
    files_read: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a run fail or a score wrong."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are only remarks."""
        return [finding for finding in self.findings if finding.severity is Severity.WARNING]


def error(file: str | Path, found: str, expected: str, remedy: str) -> Finding:
    """Make a finding that lets a run fail or a score be wrong."""
    return Finding(severity=Severity.ERROR, file=str(file), found=found, expected=expected, remedy=remedy)


def warning(file: str | Path, found: str, expected: str, remedy: str) -> Finding:
    """Make a finding that a person should know of."""
    return Finding(severity=Severity.WARNING, file=str(file), found=found, expected=expected, remedy=remedy)


def listed(items: Iterable[object]) -> str:
    """Join items to a text, for example "3455_0000<--3454_0000, 3456_0000<--3455_0000"."""
    return ", ".join(map(str, items))
