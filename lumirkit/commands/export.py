"""`lumirkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Header, Orientation
from lumirkit.registration.convention import Convention


def export(
    field: Annotated[
        Path,
        typer.Argument(
            help="Field of `register`, or warp of ANTs or ITK (.nii.gz); with --prepared the folder of fields that "
            "`predict` filled."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Field to write (.nii.gz); with --prepared a folder.")],
    fixed: Annotated[Path | None, typer.Option(help="Fixed image.")] = None,
    moving: Annotated[Path | None, typer.Option(help="Moving image.")] = None,
    convention: Annotated[
        Convention | None, typer.Option("--format", help="What to write, whatever FIELD is.", show_default="itk")
    ] = None,
    header: Header = None,
    orientation: Orientation = None,
    prepared: Annotated[
        Path | None,
        typer.Option(
            help="Dataset folder of `prepare`: write BIDS derivatives of its scans, with fields between them (ITK), "
            "the warped scans, and the affines to the dataset."
        ),
    ] = None,
) -> None:
    """Write a field for ANTs and ITK (LPS mm) or in the challenge's format; or many as BIDS derivatives."""
    from lumirkit.base.errors import RequestError
    from lumirkit.registration.header import HeaderChoice
    from lumirkit.registration.warp_files import export_field

    if prepared is not None:
        from lumirkit.base.screen import say_to_stderr
        from lumirkit.prepare.derivatives import write_derivatives

        others = {"fixed": fixed, "moving": moving, "format": convention, "header": header, "orientation": orientation}
        found = [f"--{name}" for name, given in others.items() if given is not None]
        if found:
            raise RequestError(f"--prepared with {', '.join(found)}: expected it alone, as the dataset says the rest.")
        count = write_derivatives(field, prepared, out, say_to_stderr)
        print(f"{out}: {count} pairs as BIDS derivatives")
        return
    if fixed is None or moving is None:
        raise RequestError("export: expected --fixed and --moving, the images of the field, or --prepared.")
    export_field(field, fixed, moving, out, convention or Convention.ITK, HeaderChoice(header, orientation))
