"""What the challenge mounts into a submission's container, and what it expects to find afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lumirkit.base.errors import KitError, RequestError, VolumeError
from lumirkit.base.files import require_room
from lumirkit.base.nifti import require_output
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.volume import read_header
from lumirkit.submission.contract_name import ContractName

_PAIR_PATHS = ("fixed image", "moving image", "mask of the fixed image", "mask of the moving image", "output")


class ContractError(KitError):
    """The container was started with other mounts or paths than a task gives; the message says what was expected."""


@dataclass(frozen=True)
class Contract:
    """Where one year's task mounts the images and the pair list, and where it collects the fields."""

    name: ContractName
    images: Path
    dataset_json: Path
    output: Path

    def under(self, root: Path) -> Contract:
        """The contract with its mounts below another root than `/`."""
        parts = (self.images, self.dataset_json, self.output)
        return Contract(self.name, *(root / path.relative_to("/") for path in parts))


CONTRACTS = (
    Contract(ContractName.LUMIR_2025, Path("/app/input"), Path("/app/LUMIR25_dataset.json"), Path("/app/output")),
    Contract(ContractName.LUMIR_2024, Path("/input"), Path("/LUMIR_dataset.json"), Path("/output")),
)


def find_contract(root: Path = Path("/"), name: ContractName = ContractName.AUTO) -> Contract:
    """The contract whose pair list is mounted; if several are, the first of `CONTRACTS`.

    Args:
        root: where the mounts are.
        name: look for this one only.

    Raises:
        ContractError: none is, or its image folder is not there.
    """
    candidates = [contract.under(root) for contract in CONTRACTS if name in (ContractName.AUTO, contract.name)]
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


def pair_of_paths(paths: Sequence[Path]) -> PairFiles:
    """The pair of the one-pair-per-run form: fixed, moving, their masks, output.

    Raises:
        ContractError: there are not five paths, or an input is no file.
        VolumeError: the output has no NIfTI name.
        RequestError: the output's folder is not writable or has no room for it, or the output is one of the inputs.
    """
    if len(paths) != len(_PAIR_PATHS):
        raise ContractError(f"found {len(paths)} paths; expected none or five: {', '.join(_PAIR_PATHS)}.")
    fixed, moving, fixed_mask, moving_mask, output = paths
    for what, path in zip(_PAIR_PATHS, paths[:-1], strict=False):
        if not path.is_file():
            raise ContractError(f"{path}: no such file; expected the {what}. Mount it, or correct the path.")
    if output.is_dir():
        raise ContractError(f"{output}: is a folder; expected the name of the field to write, ending in .nii.gz.")
    require_output(output)
    require_apart([output], paths[:-1])
    with suppress(VolumeError):  # of an image that cannot be read the account of the run tells
        require_room(output, read_header(fixed).shape[:3])
    return PairFiles(f"{fixed.name}<--{moving.name}", fixed, moving, output, masks=(fixed_mask, moving_mask))


def contract_of_options(dataset_json: Path, images: Path | None, output: Path | None) -> Contract:
    """A contract made of explicit paths; the images are taken from the JSON's own folder unless said otherwise.

    Raises:
        RequestError: no output is given.
    """
    if output is None:
        raise RequestError(f"--dataset-json {dataset_json} without --output; expected the folder for the fields.")
    return Contract(ContractName.AUTO, images or dataset_json.parent, dataset_json, output)
