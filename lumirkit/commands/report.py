"""`lumirkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.errors import RequestError
from lumirkit.base.extras import require_extra


def report(
    out: Annotated[Path, typer.Option(help="Page to write (.html); everything is in it.")],
    ground_truth: Annotated[
        Path | None, typer.Option(help="Folder with images, labels and *_evaluation_config.json.")
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Option(help="Folder of fields, or NAME=folder; several are shown side by side.")
    ] = None,
    training: Annotated[Path | None, typer.Option(help="Run folder: the page shows its training instead.")] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of each split to show in pictures, worst first.")] = 2,
    pair: Annotated[list[str] | None, typer.Option(help="Show this pair first: its name, or a part of it.")] = None,
    zero_field: Annotated[bool, typer.Option(help="Add the zero field as a reference.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that score pairs at the same time.")] = 1,
) -> None:
    """Write a page about scored fields, or about a training run."""
    require_extra("lumirkit report", "report", "matplotlib", "pillow")
    from lumirkit.eval.report.fields import report_fields
    from lumirkit.eval.report.training import write_training_report

    if training is not None and ground_truth is None and not fields:
        write_training_report(training, out)
    elif training is None and ground_truth is not None and fields:
        report_fields(ground_truth, fields, out, pairs, pair or [], zero_field, workers)
    else:
        raise RequestError("report: expected --ground-truth and --fields, or --training alone.")
    print(f"report: {out}")
