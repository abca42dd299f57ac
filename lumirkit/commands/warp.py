"""`lumirkit warp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.errors import RequestError
from lumirkit.commands.options import Header, Orientation
from lumirkit.registration.vector_rule import VectorRule


def warp(
    fields: Annotated[
        list[Path],
        typer.Argument(
            help="Field of `register`, warp of ANTs or ITK, deformation of SPM or NiftyReg (.nii.gz); or several, and "
            "affines (.mat, .txt, .tfm, .h5, '[FILE,1]' for the inverse), as antsApplyTransforms takes them after -t: "
            "positions of the fixed image pass the first one first."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Image (.nii.gz) to write; of points, a file of their kind.")],
    moving: Annotated[Path | None, typer.Option(help="What to warp: the moving image, or a label map of it.")] = None,
    like: Annotated[Path | None, typer.Option(help="Fixed image, whose header the result gets.")] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Nearest voxel, integer type kept, save that 64 bits become 32.")
    ] = False,
    fill: Annotated[float, typer.Option(help="Value beyond the moving image, such as -1024 of a CT.")] = 0,
    vectors: Annotated[
        VectorRule,
        typer.Option(
            help="Of a vector image, (X, Y, Z, 3) along RAS or (X, Y, Z, 1, 3) along ITK's LPS: `rotate` turns the "
            "vectors with the tissue."
        ),
    ] = VectorRule.KEEP,
    points: Annotated[
        Path | None,
        typer.Option(help="CSV with columns x, y, z, RAS mm of the fixed image, or Slicer's .fcsv or .mrk.json."),
    ] = None,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Carry images, series or labels onto the fixed grid, or points of the fixed image into the moving one."""
    from lumirkit.registration.header import HeaderChoice
    from lumirkit.registration.warp_files import Reading, warp_file, warp_points

    choice = HeaderChoice(header, orientation)
    if points is not None:
        warp_points(fields, points, out, moving, like, choice)
    elif moving is not None:
        warp_file(fields, moving, out, like, Reading(labels, fill, vectors), choice)
    else:
        raise RequestError("warp: expected --moving, the image or label map to warp, or --points.")
