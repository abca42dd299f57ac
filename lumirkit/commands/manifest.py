"""The sub-commands of `lumirkit manifest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What a dataset folder holds.")


@app.command()
def check(
    root: Annotated[Path, typer.Argument(help="Dataset folder with *dataset.json.")],
    task: Annotated[str | None, typer.Option(help="Compare with the facts of LUMIR24 or LUMIR25 too.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read files at the same time.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the findings to this file too.")] = None,
) -> None:
    """List everything in a dataset folder that would make a run fail or a score wrong."""
    from rich.console import Console

    from lumirkit.base.files import require_writable_file, write_json_atomically
    from lumirkit.base.outputs import require_apart
    from lumirkit.commands.findings import print_findings, watch_reading
    from lumirkit.data_manifests.check import check_dataset
    from lumirkit.data_manifests.evaluation_config import files_of

    if json is not None:
        require_writable_file(json)
        require_apart([json], files_of(root))
    report = check_dataset(root, task, workers, watch_reading)
    if json is not None:
        write_json_atomically(json, report.model_dump(mode="json"))
    print_findings(report, Console())
    if report.errors:
        raise typer.Exit(1)


@app.command()
def split(
    root: Annotated[Path, typer.Argument(help="Dataset folder with *dataset.json, training images and label maps.")],
    out: Annotated[Path, typer.Option(help="Folder for the dataset folders `development` and `test`.")],
    shares: Annotated[str, typer.Option(help="Shares of training/validation/test.")] = "60/20/20",
    seed: Annotated[int, typer.Option(help="Draws which image goes where.")] = 0,
    listed: Annotated[
        Path | None, typer.Option("--list", help="CSV file with the columns image and part, instead of shares.")
    ] = None,
) -> None:
    """Divide the training images of a dataset into a part to train on, one to validate on and one to test on."""
    from lumirkit.data_manifests.split import split_dataset

    counts = split_dataset(root, out, shares, seed, listed)
    print(f"{out}: {', '.join(f'{count} {part}' for part, count in counts.items())}")
