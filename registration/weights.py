"""Weights in safetensors files that carry their own card, which says what they are and how they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lumirkit.base.errors import KitError
from lumirkit.base.files import write_atomically
from lumirkit.base.refused import list_problems
from lumirkit.registration.architecture import NetworkConfig, make_network
from lumirkit.registration.ensemble import Ensemble, make_ensemble
from lumirkit.registration.network import Network
from lumirkit.registration.precision import Precision

_CARD_KEY = "lumirkit"
_PICKLE_ENDINGS = (".pth", ".pt", ".pkl", ".ckpt")
_PICKLE_BEGINS = (b"PK\x03\x04", b"\x80\x02\x8a\n")  # of files of torch.save, now and before its version 1.6
_PICKLE_SENTENCE = (
    "found weights as torch.save writes them, a pickle, which may run any code when it is read and does not say of "
    "which network it is; expected a .safetensors file written by `lumirkit train`. Train that network with a recipe "
    "of the kit, or write its tensors with lumirkit.registration.weights.save_weights."
)


class WeightsError(KitError):
    """A weight file cannot be used; the message says file, found, expected and what to do."""


class WeightsCard(BaseModel):
    """The description of a network that its weight file carries."""

    model_config = ConfigDict(extra="forbid")

    network: NetworkConfig
    recipe: dict[str, Any]
    """The resolved training recipe."""
    seed: int
    steps: int
    """The number of optimizer steps taken."""
    provenance: dict[str, str] = {}
    """The versions, the commit and the training data that the weights come from."""
    sha256: str = ""
    """The hash of the tensors' names, types, shapes and bytes; it is filled in when the file is written."""


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and bytes with SHA-256, independently of the file's layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, network: Network, card: WeightsCard, dtype: torch.dtype = torch.float32) -> WeightsCard:
    """Write a network and its card atomically.

    Args:
        path: the .safetensors file.
        network: the network whose tensors are written.
        card: its description, without the hash.
        dtype: the number format in the file; a network that is loaded from it has float32 again.

    Returns:
        The card with the hash filled in.
    """
    tensors = {name: tensor.detach().cpu().contiguous().to(dtype) for name, tensor in network.state_dict().items()}
    card = card.model_copy(update={"sha256": hash_tensors(tensors)})
    metadata = {_CARD_KEY: card.model_dump_json()}
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(f"{path}: could not be written ({error}). Make room, or name another folder.") from error
    return card


def _is_pickle(path: Path) -> bool:
    """Whether a file is what torch.save writes, by its name or its first bytes."""
    with path.open("rb") as file:
        begins = file.read(max(map(len, _PICKLE_BEGINS)))
    return path.suffix.lower() in _PICKLE_ENDINGS or begins.startswith(_PICKLE_BEGINS)


def load_weights(
    path: Path, device: torch.device | str = "cpu", precision: Precision = Precision.FLOAT32
) -> tuple[Network, WeightsCard]:
    """Read a network, ready for inference, and its card.

    Args:
        path: the .safetensors file.
        device: where the network will compute.
        precision: the number format of its convolutions.

    Raises:
        WeightsError: the file is missing or damaged, has no card, or its tensors do not fit its hash or network.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file; expected a .safetensors file written by `lumirkit train`.")
    try:
        with safe_open(path, framework="pt") as file:
            card_json = (file.metadata() or {}).get(_CARD_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        if _is_pickle(path):
            raise WeightsError(f"{path}: {_PICKLE_SENTENCE}") from error
        raise WeightsError(f"{path}: not a readable safetensors file ({error}). Copy it again.") from error
    if card_json is None:
        raise WeightsError(f"{path}: found no lumirkit card in the file; expected weights written by `lumirkit train`.")
    try:
        card = WeightsCard.model_validate_json(card_json)
    except ValidationError as error:
        raise WeightsError(
            f"{path}: its card is not valid for this version of lumirkit:\n{list_problems(error)}"
        ) from error
    found = hash_tensors(tensors)
    if found != card.sha256:
        raise WeightsError(
            f"{path}: the tensors hash to {found[:12]}…, the card says {card.sha256[:12]}…; the file was changed or "
            "damaged after training. Copy it again from the run that made it."
        )
    network = make_network(card.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the tensors do not fit the network in the card: {error}") from error
    network.precision = precision
    return network.to(device).eval().requires_grad_(False), card


def find_weights(paths: Sequence[Path]) -> list[Path]:
    """Expand folders into the .safetensors files they hold, in sorted order.

    Raises:
        WeightsError: a path does not exist, or a folder holds no weights.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        pickles = [file for file in sorted(path.glob("*")) if file.suffix.lower() in _PICKLE_ENDINGS]
        if not found and pickles:
            raise WeightsError(f"{pickles[0]}: {_PICKLE_SENTENCE}")
        if not found:
            raise WeightsError(f"{path}: the folder holds no .safetensors file; train first or name another folder.")
        files += found
    return files


def load_ensemble(
    paths: Sequence[Path], device: torch.device | str = "cpu", precision: Precision = Precision.FLOAT32
) -> tuple[Ensemble, list[WeightsCard]]:
    """Read one to K weight files (or folders of them) as one ensemble.

    Args:
        paths: the files and folders, in the order of the members.
        device: where the ensemble will compute.
        precision: the number format of its convolutions.

    Raises:
        WeightsError: `load_weights` cannot read a file, the networks or recipes differ, or a model is there twice.
    """
    files = find_weights(paths)
    loaded = [load_weights(file, device, precision) for file in files]
    cards = [card for _, card in loaded]
    for number, (file, card) in enumerate(zip(files, cards, strict=True)):
        _require_same(file, dict(card.network), files[0], dict(cards[0].network), "network")
        _require_same(file, _training_of(card), files[0], _training_of(cards[0]), "recipe")
        for other, other_card in zip(files[:number], cards[:number], strict=True):
            if other_card.sha256 == card.sha256:
                raise WeightsError(f"{file}: the same model as {other}; an ensemble of it counts it twice. Remove one.")
    try:
        return make_ensemble([network for network, _ in loaded]), cards
    except ValueError as error:
        raise WeightsError(f"{files[0]} and {len(files) - 1} more: {error}") from error


def hash_of_members(cards: Sequence[WeightsCard]) -> str:
    """The SHA-256 that stands for all models of an ensemble, in their order."""
    return hashlib.sha256("\n".join(card.sha256 for card in cards).encode()).hexdigest()


def _training_of(card: WeightsCard) -> dict[str, Any]:
    """The recipe without what tells the members of an ensemble apart: their seeds and what they started from."""
    return {key: value for key, value in card.recipe.items() if key not in ("seed", "initial_weights")}


def _require_same(file: Path, found: dict[str, Any], first_file: Path, first: dict[str, Any], what: str) -> None:
    differing = [
        f"{key} is {found.get(key)!r}, there {first.get(key)!r}"
        for key in sorted({*found, *first})
        if found.get(key) != first.get(key)
    ]
    if differing:
        raise WeightsError(
            f"{file}: its {what} differs from that of {first_file}: {'; '.join(differing)}. "
            f"An ensemble averages what models of one {what} predict."
        )
