"""Reader of the dataset JSON that a Learn2Reg task ships: training images and validation pairs."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from lumirkit.base.errors import KitError
from lumirkit.base.nifti import open_nifti
from lumirkit.base.refused import list_problems

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


def _with_slashes(path: Any) -> Any:
    """A path as it was written on Windows, for every system."""
    return path.replace("\\", "/") if isinstance(path, str) else path


ListedPath = Annotated[Path, BeforeValidator(_with_slashes)]
"""A path relative to the dataset's folder."""


class ImageEntry(BaseModel):
    """One training image; the path is relative to the dataset's folder."""

    image: ListedPath

    @model_validator(mode="before")
    @classmethod
    def _of_a_bare_path(cls, entry: Any) -> Any:
        return {"image": entry} if isinstance(entry, str) else entry


class Pair(BaseModel):
    """A fixed and a moving image; paths are relative to the dataset's folder."""

    model_config = ConfigDict(frozen=True)

    fixed: ListedPath
    moving: ListedPath

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


Shape = tuple[int, int, int]

_IMAGES, _PAIRS = "training", ("validation", "registration_val")
"""The keys of the lists that are read: the training images, and the pairs, under either name that tasks give them."""


class Dataset(BaseModel):
    """The parts of a dataset JSON that training and prediction use; made by `read_dataset`."""

    tensor_image_shape: dict[str, Shape] = Field(default={}, alias="tensorImageShape")
    training: list[ImageEntry] = []
    validation: list[Pair] = []
    num_training: int | None = Field(default=None, alias="numTraining")
    num_validation: int | None = Field(default=None, alias="numValidation")

    _images: Path = PrivateAttr(Path())
    _keys: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _in_one_form(cls, content: Any) -> Any:
        """Bring the forms in which tasks write the same things to one."""
        if not isinstance(content, dict):
            return content
        if not {_IMAGES, *_PAIRS} & set(content):
            raise ValueError(
                f"found the keys {', '.join(content) or 'none'}; expected training, a list of images, and validation "
                "(or registration_val), a list of pairs of fixed and moving. Write such a JSON for these images"
            )
        content = dict(content)
        if isinstance(content.get("tensorImageShape"), list):
            content["tensorImageShape"] = {"0": content["tensorImageShape"]}
        if not content.get("validation") and content.get("registration_val"):
            content["validation"] = content["registration_val"]
        return content

    @property
    def image_shape(self) -> Shape:
        """The shape (X, Y, Z) in voxels that every image of the set has: as stated, else that of the first image.

        Raises:
            ManifestError: the JSON does not state it, and none of its images is there.
            VolumeError: the first image cannot be read.
        """
        if self.tensor_image_shape:
            return next(iter(self.tensor_image_shape.values()))
        listed = [entry.image for entry in self.training]
        listed += [image for pair in self.validation for image in (pair.fixed, pair.moving)]
        first = next((image for image in listed if (self._images / image).is_file()), None)
        if first is None:
            raise ManifestError(
                f"{self._images}: found no image of the dataset JSON, which states no tensorImageShape; expected one "
                "or the other. Copy the images there."
            )
        x, y, z = (*open_nifti(self._images / first).shape, 1, 1, 1)[:3]
        return x, y, z

    @property
    def no_pairs(self) -> str:
        """What to say where pairs are wanted and there are none: the keys that are there, and the one to have."""
        return (
            f"found no validation pairs, but the keys {', '.join(self._keys)}; expected a list of pairs of fixed and "
            "moving under the key validation or registration_val. Name the list of your pairs so."
        )


def find_dataset_json(root: Path) -> Path:
    """Find the one `*dataset.json` of a dataset folder.

    Raises:
        ManifestError: there is none, or more than one.
    """
    if root.is_file():
        raise ManifestError(f"{root}: found a file; expected a dataset folder. Give the folder that it is in.")
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; expected a dataset folder with a *dataset.json in it.")
    found = sorted(root.glob("*dataset.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ManifestError(f"{root}: found {names}; expected exactly one *dataset.json. Name the file itself instead.")
    return found[0]


def read_dataset(path: Path, images: Path | None = None) -> Dataset:
    """Read and check a dataset JSON.

    Args:
        images: folder that the JSON's paths are relative to; None for its own.

    Raises:
        ManifestError: the file is missing, is not JSON or lacks a needed key.
    """
    dataset = read_json_model(path, Dataset)
    dataset._images = path.parent if images is None else images
    dataset._keys = tuple(json.loads(_read_text(path)))
    return dataset


def read_json_model(path: Path, model: type[Model]) -> Model:
    """Read a JSON file into a pydantic model; every problem becomes one ManifestError that names file and key."""
    try:
        return model.model_validate_json(_read_text(path))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except ValidationError as error:
        raise ManifestError(f"{path}: not a usable JSON file; correct this:\n{list_problems(error)}") from error


def _read_text(path: Path) -> bytes:
    """Read a JSON file without the mark that some editors put before its first byte."""
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


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
