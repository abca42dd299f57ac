"""What the challenge mounts into a submission's container, and what it expects to find afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ContractError(ValueError):
    """The container was started with other mounts than a LUMIR task gives; the message says which were expected."""


@dataclass(frozen=True)
class Contract:
    """Where one year's task mounts the images and the pair list, and where it collects the fields."""

    name: str
    images: Path
    dataset_json: Path
    output: Path

    def under(self, root: Path) -> Contract:
        """The same contract below another root than `/`."""
        parts = (self.images, self.dataset_json, self.output)
        return Contract(self.name, *(root / path.relative_to("/") for path in parts))


CONTRACTS = (
    Contract("LUMIR 2025", Path("/app/input"), Path("/app/LUMIR25_dataset.json"), Path("/app/output")),
    Contract("LUMIR 2024", Path("/input"), Path("/LUMIR_dataset.json"), Path("/output")),
)


def find_contract(root: Path = Path("/")) -> Contract:
    """The contract whose pair list is mounted.

    Raises:
        ContractError: none is, or its image folder is not there.
    """
    candidates = [contract.under(root) for contract in CONTRACTS]
    for contract in candidates:
        if contract.dataset_json.is_file():
            if not contract.images.is_dir():
                raise ContractError(
                    f"{contract.dataset_json} is mounted but {contract.images} is not; expected the images of "
                    f"{contract.name} there. Add -v <images>:{contract.images} to docker run."
                )
            return contract
    expected = " or ".join(f"{contract.dataset_json} ({contract.name})" for contract in candidates)
    raise ContractError(f"no pair list is mounted; expected {expected}. Add -v <file>:<that path> to docker run.")
