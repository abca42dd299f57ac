"""`lumirkit register`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import ConvolutionFormat, Device, Header, Orientation, Refine, RefineGrid, Weights
from lumirkit.registration.convention import Convention
from lumirkit.registration.precision import PrecisionChoice


def register(
    fixed: Annotated[Path, typer.Argument(help="Fixed image (.nii.gz).")],
    moving: Annotated[Path, typer.Argument(help="Moving image, on any grid.")],
    out: Annotated[Path, typer.Argument(help="Displacement field to write (.nii.gz).")],
    weights: Weights = None,
    device: Device = "auto",
    precision: ConvolutionFormat = PrecisionChoice.AUTO,
    refine: Refine = 0,
    refine_grid: RefineGrid = None,
    moved: Annotated[Path | None, typer.Option(help="Write the moving image on the fixed grid, too.")] = None,
    convention: Annotated[
        Convention | None,
        typer.Option("--format", help="Of the field; challenge where both images share one grid, else itk."),
    ] = None,
    affine: Annotated[bool, typer.Option("--affine", help="Align by ANTs first; the extra `baselines`.")] = False,
    fixed_mask: Annotated[Path | None, typer.Option(help="Brain mask of the fixed image.")] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="Brain mask of the moving image.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Take the arrays as they are, as `predict` does.")] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The images are heads: strip and align them first, as `prepare` does."),
    ] = False,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Register one pair of skull-stripped images, or with --raw of heads, of any orientation and spacing."""
    from lumirkit.registration.any_pair.files import FileOptions, register_and_warp
    from lumirkit.registration.header import HeaderChoice
    from lumirkit.registration.refinement.settings import chosen_refinement
    from lumirkit.submission.shipped_weights import chosen_weights

    refinement = chosen_refinement(refine, refine_grid)
    choice = HeaderChoice(header, orientation)
    options = FileOptions(fixed_mask, moving_mask, affine, convention, as_is, choice, refinement)
    if raw:
        from lumirkit.prepare.raw_pair import register_raw

        register_raw(fixed, moving, out, chosen_weights(weights), device, precision, options, moved)
        return
    register_and_warp(fixed, moving, out, chosen_weights(weights), device, precision, options, moved)
