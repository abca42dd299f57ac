"""`lumirkit jacobian`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.commands.options import Header, Orientation


def jacobian(
    field: Annotated[Path, typer.Argument(help="Field of `register`, or warp of ANTs or ITK (.nii.gz).")],
    out: Annotated[Path, typer.Option(help="Map to write (.nii.gz).")],
    log: Annotated[bool, typer.Option("--log", help="The natural logarithm; below 1e-9 it is that of 1e-9.")] = False,
    like: Annotated[Path | None, typer.Option(help="Fixed image, whose header the map gets.")] = None,
    header: Header = None,
    orientation: Orientation = None,
) -> None:
    """Write the Jacobian determinant at every fixed voxel: above 1 its surroundings are larger in the moving image."""
    from lumirkit.registration.field_files import jacobian_map
    from lumirkit.registration.header import HeaderChoice

    jacobian_map(field, out, log, like, HeaderChoice(header, orientation))
