"""`lumirkit template`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import ConvolutionFormat, Device, Weights
from lumirkit.registration.precision import PrecisionChoice


def template(
    brains: Annotated[
        list[Path], typer.Argument(help="Dataset folder, whose training images are taken, or brains on one grid.")
    ],
    out: Annotated[Path, typer.Option(help="Mean brain to write (.nii.gz).")],
    rounds: Annotated[int, typer.Option(min=0, help="How often all brains are registered to their mean.")] = 3,
    coarser: Annotated[
        int, typer.Option("--coarser", min=1, help="Voxels of the brains a voxel of the mean; 2 makes 2 mm of 1 mm.")
    ] = 1,
    weights: Weights = None,
    device: Device = "auto",
    precision: ConvolutionFormat = PrecisionChoice.AUTO,
) -> None:
    """Make the mean brain of a group by registration, which `prepare --template` takes."""
    from lumirkit.base.screen import say_to_stderr
    from lumirkit.prepare.template_files import write_template
    from lumirkit.registration.device import choose_place
    from lumirkit.registration.predictor import Predictor
    from lumirkit.submission.shipped_weights import chosen_weights

    def predictor() -> Predictor:
        return Predictor(chosen_weights(weights), choose_place(device, precision, say_to_stderr))

    write_template(brains, out, predictor, rounds, coarser, print)
    print(f"template: {out}")
