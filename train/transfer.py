"""Starting a network from the weights of another run, whole or in the parts that fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.registration.network import Network
from lumirkit.registration.weights import WeightsError, load_weights
from lumirkit.train.recipe import Recipe

_LISTED = 8


def start_from(path: Path, recipe: Recipe, network: Network) -> str:
    """Give a network the recipe's initial weights, as its `initial_parts` say; returns a remark on what was taken.

    Raises:
        WeightsError: the file cannot be used, is of another network, or nothing of it fits.
    """
    initial, card = load_weights(path)
    if recipe.initial_parts == "all":
        if card.network != recipe.network:
            raise WeightsError(
                f"{path}: holds a network {card.network}; the recipe trains {recipe.network}. Give the recipe the "
                "network of its initial weights, or take what fits with initial_parts=matching."
            )
        network.load_state_dict(initial.state_dict())
        return f"started from {path.name}"
    offered, wanted = initial.state_dict(), network.state_dict()
    taken = {name: each for name, each in offered.items() if name in wanted and each.shape == wanted[name].shape}
    missing, unused = (sorted(set(names) - set(taken)) for names in (wanted, offered))
    lists = f"of this network not there: {_some(missing)}; not used: {_some(unused)}"
    if not taken:
        raise WeightsError(f"{path}: none of its {len(offered)} tensors has name and shape of one here; {lists}.")
    network.load_state_dict(taken, strict=False)
    return f"started from {len(taken)} of the {len(wanted)} tensors in {path.name}; {lists}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join([*names[:_LISTED], *([f"and {more} more"] if more > 0 else [])]) or "none"
