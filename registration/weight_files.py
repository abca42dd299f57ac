"""`lumirkit weights`: what is in weight files, and small copies of them to ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable
from lumirkit.base.outputs import require_apart
from lumirkit.registration.weights import WeightsCard, find_weights, load_ensemble, save_weights


def read_cards(paths: Sequence[Path]) -> list[tuple[Path, WeightsCard]]:
    """Check that weight files are intact and fit together as one ensemble; returns each with its card.

    Raises:
        WeightsError: a file cannot be used, or the networks differ.
    """
    _, cards = load_ensemble(paths)
    return list(zip(find_weights(paths), cards, strict=True))


def pack_weights(paths: Sequence[Path], out: Path, notes: Sequence[str]) -> None:
    """Write weight files in float16, half the size, into one folder, with notes on their cards.

    Args:
        notes: `key=value` each, such as what the training data is and under which licence.

    Raises:
        WeightsError, RequestError: a file cannot be used, two have one name, or a note is no note; nothing was written.
    """
    noted = dict(_note(text) for text in notes)
    files = find_weights(paths)
    if len({file.name for file in files}) < len(files):
        raise RequestError(f"{out}: two of {', '.join(map(str, files))} have one name. Rename one.")
    require_writable(out)
    require_apart([out / file.name for file in files], files)
    ensemble, cards = load_ensemble(paths)
    for file, network, card in zip(files, ensemble.members, cards, strict=True):
        packed = card.model_copy(update={"provenance": {**card.provenance, **noted}})
        save_weights(out / file.name, network, packed, torch.float16)


def _note(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key or not value:
        raise RequestError(f"--note {text}: expected key=value, such as data=LUMIR25.")
    return key, value
