"""`lumirkit weights`: what is in weight files, and small copies of them to ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable
from lumirkit.registration.weights import find_weights, load_ensemble, save_weights


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


def pack_weights(paths: Sequence[Path], out: Path, notes: Sequence[str]) -> None:
    """Write weight files in float16, half the size, into one folder, with notes on their cards.

    Args:
        notes: `key=value` each, such as what the training data is and under which licence.

    Raises:
        WeightsError, RequestError: a file cannot be used, two have one name, or a note is no note; nothing was written.
    """
    said = dict(_note(text) for text in notes)
    files = find_weights(paths)
    if len({file.name for file in files}) < len(files):
        raise RequestError(f"{out}: two of {', '.join(map(str, files))} have one name. Rename one.")
    ensemble, cards = load_ensemble(paths)
    require_writable(out)
    for file, network, card in zip(files, ensemble.members, cards, strict=True):
        noted = card.model_copy(update={"provenance": {**card.provenance, **said}})
        save_weights(out / file.name, network, noted, torch.float16)


def _note(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key or not value:
        raise RequestError(f"--note {text}: expected key=value, such as data=LUMIR25.")
    return key, value
