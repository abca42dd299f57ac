"""`lumirkit synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.commands.options import Overrides


def synthetic(
    recipe: Annotated[
        str, typer.Argument(help="Recipe that trains on synthetic pairs: a file (.yaml), or a shipped one's name.")
    ],
    out: Annotated[Path, typer.Option(help="Sheet to write (.png), one line a pair.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many pairs.")] = 12,
    set_: Overrides = None,
) -> None:
    """Draw pairs as a recipe generates them, to look at before training on them."""
    require_extra("lumirkit synthetic", "train", "omegaconf", "matplotlib")
    from lumirkit.base.outputs import require_apart
    from lumirkit.train.recipe import load_recipe
    from lumirkit.train.shipped_recipes import find_recipe
    from lumirkit.train.synthetic_sheet import draw_sheet

    file = find_recipe(recipe)
    require_apart([out], [file])
    draw_sheet(load_recipe(file, set_ or []), pairs, out)
