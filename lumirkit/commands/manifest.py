"""`lumirkit manifest check`: runs the checks with a progress display and shows the findings as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lumirkit.base.files import write_text_atomically
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.check import check_dataset
from lumirkit.data_manifests.checks.findings import CheckReport, Finding, Severity

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def check(root: Path, task: str | None, workers: int, json_file: Path | None) -> bool:
    """Check a dataset folder, print what was found and write it as JSON if asked; true where there is no error.

    Raises:
        ManifestError: the request itself is wrong.
    """
    report = check_dataset(root, task, workers, _watch)
    if json_file is not None:
        write_text_atomically(json_file, report.model_dump_json(indent=1) + "\n")
    show(report, Console())
    return not report.errors


def show(report: CheckReport, console: Console) -> None:
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
def _watch(total: int) -> Iterator[Callable[[], None]]:
    with Progress(total, "reading files") as progress:
        yield progress.advance
