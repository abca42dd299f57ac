"""`lumirkit invert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Header, Orientation


def invert(
    field: Annotated[Path, typer.Argument(help="Field of `register`, or warp of ANTs or ITK (.nii.gz).")],
    out: Annotated[Path, typer.Option(help="Field to write (.nii.gz), from the moving image to the fixed one.")],
    moving: Annotated[Path | None, typer.Option(help="Moving image, if its grid is not that of FIELD.")] = None,
    like: Annotated[Path | None, typer.Option(help="Fixed image.")] = None,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Write the field of the opposite direction, on the moving image's grid and in the convention of the field."""
    from lumirkit.registration.field_files import invert_field
    from lumirkit.registration.header import HeaderChoice

    invert_field(field, out, moving, like, HeaderChoice(header, orientation))
