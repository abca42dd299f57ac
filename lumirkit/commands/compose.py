"""`lumirkit compose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Header, Orientation


def compose(
    fields: Annotated[
        list[Path], typer.Argument(help="Fields and affines, in the order of `warp`: the fixed image's first.")
    ],
    out: Annotated[Path, typer.Option(help="Field to write (.nii.gz).")],
    like: Annotated[Path | None, typer.Option(help="Fixed image, whose grid the field gets.")] = None,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Make one field of several fields and affines; in voxels if all are so on one grid, else for ANTs and ITK."""
    from lumirkit.registration.field_files import compose_fields
    from lumirkit.registration.header import HeaderChoice

    compose_fields(fields, out, like, HeaderChoice(header, orientation))
