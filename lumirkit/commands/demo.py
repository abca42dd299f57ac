"""`lumirkit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
) -> None:
    """Make brain-like data, train two small models, register, score: the whole chain in a few minutes."""
    require_extra("lumirkit demo", "train", "omegaconf", "matplotlib")
    from lumirkit.demo import run_demo

    run_demo(out)
