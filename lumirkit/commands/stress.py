"""`lumirkit stress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import ConvolutionFormat, Device, Refine, RefineGrid
from lumirkit.registration.precision import PrecisionChoice


def stress(
    ground_truth: Annotated[Path, typer.Option(help="Folder with images, labels and *_evaluation_config.json.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and page; what is registered in it is kept.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Weight file, or folder of them to average, or NAME=path; repeatable, each is a method. Else those of "
            "the kit. none: no network."
        ),
    ] = None,
    refine: Refine = 0,
    refine_grid: RefineGrid = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Method beside the networks: zero, spline, syn, convexadam, greedy.")
    ] = None,
    disturbance: Annotated[
        list[str] | None,
        typer.Option(help="Only this disturbance, or NAME=5,10 with strengths; repeatable. Else all of them."),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split, such as in-domain; repeatable.")] = None,
    pairs: Annotated[int | None, typer.Option(min=1, help="Only the first pairs of each split; else all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="What all random numbers are drawn from.")] = 0,
    device: Device = "auto",
    precision: ConvolutionFormat = PrecisionChoice.AUTO,
) -> None:
    """Register labelled pairs again under bias, noise, blur, other contrasts, and errors of preprocessing."""
    require_extra("lumirkit stress", "report", "matplotlib", "pillow")
    from lumirkit.eval.stress.chosen import chosen_disturbances
    from lumirkit.registration.device import choose_place
    from lumirkit.registration.refinement.settings import chosen_refinement
    from lumirkit.stress.methods import list_methods
    from lumirkit.stress.pairs import list_labelled_cases
    from lumirkit.stress.run import run_stress

    tried = chosen_disturbances(disturbance or [])
    refinement = chosen_refinement(refine, refine_grid)
    cases = list_labelled_cases(ground_truth, split or [], pairs)
    place = choose_place(device, precision, say_to_stderr)
    methods = list_methods(weights or [], refinement, reference or [], place)
    result = run_stress(cases, methods, tried, out, seed)
    if result.tables:
        print(result.tables[0].to_markdown())
        print(f"report: {out / 'stress.html'}")
    end_with_failures(result.failures, "what failed; all else is registered, and the same command tries these again")
