"""`lumirkit ablation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import ConvolutionFormat
from lumirkit.registration.precision import PrecisionChoice


def ablation(
    rows: Annotated[str, typer.Argument(help="Ablation: a file (.yaml), or a shipped one's name: ablation_table1.")],
    data: Annotated[Path, typer.Option(help="Dataset folder with training images, validation pairs and labels.")],
    out: Annotated[Path, typer.Option(help="Folder for runs, rows and tables; what is done in it is not done again.")],
    base: Annotated[
        str | None, typer.Option(help="Base recipe, a file or a shipped one's name, for the one that the file names.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key of the base recipe.")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="Rows of zero, spline, syn, convexadam, greedy.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Give it several times to do rows side by side.")] = None,
    precision: ConvolutionFormat = PrecisionChoice.FLOAT32,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; a later call continues.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the decoded images, as `train` has it.")] = None,
) -> None:
    """Train, register and score what is not done yet of every row, and write the table."""
    require_extra("lumirkit ablation", "train", "omegaconf", "filelock", "matplotlib")
    from lumirkit.ablation.plan import load_ablation
    from lumirkit.ablation.run import run_ablation
    from lumirkit.registration.device import choose_place
    from lumirkit.train.shipped_recipes import find_recipe

    file, base_file = find_recipe(rows), None if base is None else find_recipe(base)
    planned = load_ablation(file, base_file, set_ or [])
    places = [choose_place(name, precision, say_to_stderr) for name in device or ["auto"]]
    planned_in = [file] if base_file is None else [file, base_file]
    result = run_ablation(planned, data, out, places, reference or [], minutes, cache, planned_in)
    if result.table is not None:
        print(result.table.as_text("md"))
    end_with_failures(result.failures, "what failed")
