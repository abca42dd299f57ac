"""`lumirkit weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def weights(
    paths: Annotated[list[Path], typer.Argument(help="Weight files, or folders of them.")],
    pack: Annotated[Path | None, typer.Option(help="Write them to this folder too, in float16: half the size.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="key=value on the cards of what is packed.")] = None,
) -> None:
    """Check that weights are intact and fit together, and show what they are."""
    from rich.console import Console
    from rich.table import Table

    from lumirkit.registration.weight_files import pack_weights, read_cards

    table = Table("file", "recipe", "seed", "steps", "network", "sha256")
    for file, card in read_cards(paths):
        network = f"{card.network.architecture}, {card.network.input_transform}, {card.network.resolution_vox} vox"
        recipe = str(card.recipe.get("name", ""))
        table.add_row(file.name, recipe, str(card.seed), str(card.steps), network, card.sha256[:12])
    Console().print(table)
    if pack is not None:
        pack_weights(paths, pack, note or [])
