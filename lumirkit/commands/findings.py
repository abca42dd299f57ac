"""The findings of `lumirkit manifest check` on the screen, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lumirkit.base.progress import Progress
from lumirkit.data_manifests.checks.findings import CheckReport, Finding, Severity

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def print_findings(report: CheckReport, console: Console) -> None:
    """Print one table for the errors and one for the warnings, then the sums."""
    for severity, findings in ((Severity.ERROR, report.errors), (Severity.WARNING, report.warnings)):
        if findings:
            table = Table(title=f"{severity}s", title_style=_STYLES[severity], show_lines=True, expand=True)
            table.add_column("file", ratio=3, overflow="fold")
            for title in ("found", "expected", "what to do"):
                table.add_column(title, ratio=3, overflow="fold")
            for files, finding in _grouped(findings):
                cells = ("\n".join(files), finding.found, finding.expected, finding.remedy)
                table.add_row(*map(escape, cells))
            console.print(table)
    errors, warnings = len(report.errors), len(report.warnings)
    console.print(
        f"{report.root}: {report.files_read} files read, {errors} errors, {warnings} warnings",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _grouped(findings: list[Finding]) -> list[tuple[list[str], Finding]]:
    """Files with the same problem together, so that one mistake in a thousand files is one row."""
    groups: dict[tuple[str, str, str], tuple[list[str], Finding]] = {}
    for finding in findings:
        key = (finding.found, finding.expected, finding.remedy)
        groups.setdefault(key, ([], finding))[0].append(finding.file)
    return list(groups.values())


@contextmanager
def watch_reading(total: int) -> Iterator[Callable[[], None]]:
    """Show how many files have been read; gives what to call after each."""
    with Progress(total, "reading files") as progress:
        yield progress.advance
