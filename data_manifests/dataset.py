"""Reader of the dataset JSON that a Learn2Reg task ships: training images and validation pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumirkit.base.errors import KitError

Model = TypeVar("Model", bound=BaseModel)

_IMAGE_NAME = re.compile(r"(?P<subject>\d{4})_(?P<modality>\d{4})\.nii(\.gz)?$")


class ManifestError(KitError, ValueError):
    """A dataset or evaluation JSON cannot be used; the message says file, found, expected and what to do.

    It is a ValueError, too, so that a pydantic model may meet it while it checks a file.
    """


@dataclass(frozen=True)
class ImageName:
    """The two numbers in a challenge file name `<task>_<subject:4>_<modality:4>.nii.gz`."""

    subject: str
    modality: str

    @classmethod
    def parse(cls, path: str | Path) -> Self:
        """Read the numbers off a file name.

        Raises:
            ManifestError: the name does not end in `_<4 digits>_<4 digits>.nii.gz`.
        """
        match = _IMAGE_NAME.search(Path(path).name)
        if match is None:
            raise ManifestError(
                f"{path}: the file name has no subject and modality; expected ..._<4 digits>_<4 digits>.nii.gz, "
                "for example LUMIRMRI_3455_0000.nii.gz. Rename the file."
            )
        return cls(match["subject"], match["modality"])

    def __str__(self) -> str:
        return f"{self.subject}_{self.modality}"


class ImageEntry(BaseModel):
    """One training image; the path is relative to the dataset's folder."""

    image: Path


class Pair(BaseModel):
    """A fixed and a moving image; paths are relative to the dataset's folder."""

    model_config = ConfigDict(frozen=True)

    fixed: Path
    moving: Path

    @property
    def fixed_name(self) -> ImageName:
        """Subject and modality of the fixed image."""
        return ImageName.parse(self.fixed)

    @property
    def moving_name(self) -> ImageName:
        """Subject and modality of the moving image."""
        return ImageName.parse(self.moving)

    @property
    def case_name(self) -> str:
        """The organisers' name for the pair in their result, for example `3455_0000<--3454_0000`."""
        return f"{self.fixed_name}<--{self.moving_name}"

    @property
    def field_name(self) -> str:
        """File name under which the evaluator looks for the pair's displacement field."""
        fixed, moving = self.fixed_name, self.moving_name
        short = fixed.modality == moving.modality or (fixed.modality, moving.modality) == ("0000", "0001")
        if short:
            return f"disp_{fixed.subject}_{moving.subject}.nii.gz"
        return f"disp_{fixed}_{moving}.nii.gz"


class Dataset(BaseModel):
    """The parts of a dataset JSON that training and prediction use."""

    tensor_image_shape: dict[str, tuple[int, int, int]] = Field(alias="tensorImageShape")
    training: list[ImageEntry] = []
    validation: list[Pair] = []
    num_training: int | None = Field(default=None, alias="numTraining")
    num_validation: int | None = Field(default=None, alias="numValidation")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (X, Y, Z) in voxels that every image of the set has."""
        return next(iter(self.tensor_image_shape.values()))


def find_dataset_json(root: Path) -> Path:
    """Find the one `*dataset.json` of a dataset folder.

    Raises:
        ManifestError: there is none, or more than one.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; expected a dataset folder with a *dataset.json in it.")
    found = sorted(root.glob("*dataset.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ManifestError(f"{root}: found {names}; expected exactly one *dataset.json. Name the file itself instead.")
    return found[0]


def read_dataset(path: Path) -> Dataset:
    """Read and check a dataset JSON.

    Raises:
        ManifestError: the file is missing, is not JSON or lacks a needed key.
    """
    return read_json_model(path, Dataset)


def read_json_model(path: Path, model: type[Model]) -> Model:
    """Read a JSON file into a pydantic model; every problem becomes one ManifestError that names file and key."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"{path}: not a usable {model.__name__} file: {problems}.") from error


def require_files(root: Path, relative: Sequence[Path], listed_in: Path) -> None:
    """Check that every listed file exists.

    Raises:
        ManifestError: some are absent (the message lists the first few), or their folder may not be read.
    """
    try:
        absent = sorted({str(path) for path in relative if not (root / path).is_file()})
    except PermissionError as error:
        raise ManifestError(
            f"{error.filename}: user {os.getuid()} may not look there; expected readable images. "
            "Run as their owner, or make the folder readable (chmod -R a+rX)."
        ) from error
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise ManifestError(
            f"{listed_in}: {len(absent)} listed files do not exist under {root}: {shown}. "
            "Copy them there or correct the JSON."
        )
