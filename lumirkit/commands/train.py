"""`lumirkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.commands.options import Device, Overrides


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe: a file (.yaml), or a shipped one's name, such as lumir25.")],
    data: Annotated[Path, typer.Option(help="Dataset folder with *dataset.json and training images.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it is continued.")],
    set_: Overrides = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; a later call continues.")] = None,
    members: Annotated[
        int | None, typer.Option(min=1, help="Train so many seeds, counted from the recipe's, each in OUT/seed<n>.")
    ] = None,
    device: Device = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for the decoded images; without it in memory, or on disk if that is short."),
    ] = None,
    allow_other_images: Annotated[
        bool, typer.Option("--allow-other-images", help="Continue a run on other images than it began with.")
    ] = False,
) -> None:
    """Train a recipe, or continue an interrupted run of it; started by torchrun or srun, with all their processes."""
    require_extra("lumirkit train", "train", "omegaconf", "filelock", "matplotlib")
    from lumirkit.train.deadline import Deadline
    from lumirkit.train.launch import launch_training
    from lumirkit.train.shipped_recipes import find_recipe

    deadline = Deadline(minutes)
    deadline.on_termination()
    found = launch_training(
        find_recipe(recipe), set_ or [], data, out, device, members, deadline, cache, allow_other_images
    )
    for weights in found:
        print(f"weights: {weights}")
