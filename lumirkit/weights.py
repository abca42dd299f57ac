"""`lumirkit weights`: what is in weight files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from registration.weights import find_weights, load_ensemble


def show_weights(paths: Sequence[Path]) -> None:
    """Check that weight files are intact and fit together as one ensemble, and print a table of their cards.

    Raises:
        WeightsError: a file cannot be used, or the networks differ.
    """
    _, cards = load_ensemble(paths)
    table = Table("file", "recipe", "seed", "steps", "network", "sha256")
    for file, card in zip(find_weights(paths), cards, strict=True):
        network = card.network
        name = str(card.recipe.get("name", ""))
        what = f"{network.architecture}, {network.input_transform}, {network.resolution_vox} vox"
        table.add_row(file.name, name, str(card.seed), str(card.steps), what, card.sha256[:12])
    Console().print(table)
