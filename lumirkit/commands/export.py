"""`lumirkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Header, Orientation
from lumirkit.registration.convention import Convention


def export(
    field: Annotated[Path, typer.Argument(help="Field of `register`, or warp of ANTs or ITK (.nii.gz).")],
    fixed: Annotated[Path, typer.Option(help="Fixed image.")],
    moving: Annotated[Path, typer.Option(help="Moving image.")],
    out: Annotated[Path, typer.Option(help="Field to write (.nii.gz).")],
    convention: Annotated[Convention, typer.Option("--format", help="What to write.")] = Convention.ITK,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Write a field for ANTs and ITK (LPS mm), or in the challenge's format."""
    from lumirkit.registration.header import HeaderChoice
    from lumirkit.registration.warp_files import export_field

    export_field(field, fixed, moving, out, convention, HeaderChoice(header, orientation))
