"""`lumirkit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import ClusterAddress, path_for
from lumirkit.eval.mask_rule import MaskRule


def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="Folder with *_evaluation_config.json, images and labels.")],
    fields: Annotated[Path, typer.Option(help="Folder with the displacement fields.")],
    out: Annotated[Path, typer.Option(help="Where to write metrics.json; scored pairs are kept beside it.")],
    zero_field: Annotated[bool, typer.Option(help="Score the zero field too, in the table's first column.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that score pairs at the same time.")] = 1,
    tables: Annotated[Path | None, typer.Option(help="Folder for pairs.csv, labels.csv and landmarks.csv.")] = None,
    mask_rule: Annotated[
        MaskRule, typer.Option(help="Brain mask of the folding: 2025 the fixed image, 2024 the moving one.")
    ] = MaskRule.LUMIR_2025,
    inverse_fields: Annotated[
        Path | None, typer.Option(help="Folder with the fields of the exchanged pairs: inverse consistency, too.")
    ] = None,
    designs: Annotated[
        bool, typer.Option(help="Also what DDMR reports: SSIM, NCC, DSC, HD, HD95, TRE of structures, run time.")
    ] = False,
    cluster: ClusterAddress = None,
) -> None:
    """Score displacement fields as the leaderboard does."""
    from rich.console import Console

    from lumirkit.base.engine import engine_for
    from lumirkit.eval.evaluate import REGISTERED, score_fields
    from lumirkit.eval.leaderboard import ScoringOptions
    from lumirkit.eval.tables.summary import summary_table

    ground_truth, fields, out = (path_for(cluster, path) for path in (ground_truth, fields, out))
    inverse = None if inverse_fields is None else path_for(cluster, inverse_fields)
    options = ScoringOptions(mask_rule, inverse, designs=designs)
    with engine_for(workers, cluster) as engine:
        results = score_fields(ground_truth, fields, out, options, tables, zero_field, engine)
    Console().print(summary_table(results))
    for warning in results[REGISTERED].warnings:
        say_to_stderr(f"warning: {warning}")
    title = "failed pairs; no aggregates without them, all other pairs are scored"
    end_with_failures(results[REGISTERED].failures, title)
