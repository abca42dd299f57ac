"""Reader of the evaluation configs that a Learn2Reg task ships: which pairs are scored, by what, on which labels."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, PrivateAttr, model_validator

from lumirkit.data_manifests.dataset import ManifestError, Pair, read_json_model

_SUFFIX = "_evaluation_config.json"


class Split(StrEnum):
    """A quarter of the challenge's validation set, in the order in which the organisers score them."""

    LANDMARKS = "in-domain landmarks"
    IN_DOMAIN = "in-domain"
    OUT_OF_DOMAIN = "out-of-domain"
    MULTI_MODAL = "multi-modal"


_FILE_ENDINGS = {
    "LUMIR24_Landmark": Split.LANDMARKS,
    "LUMIR24_Segmentation": Split.IN_DOMAIN,
    "LUMIR_VAL_Landmark": Split.LANDMARKS,  # the two files of 2024
    "LUMIR_VAL_Segmentation": Split.IN_DOMAIN,
    "HighField_Segmentation": Split.OUT_OF_DOMAIN,
    "MultiModal_Segmentation": Split.MULTI_MODAL,
}


def is_official(split: str) -> bool:
    """Whether a split is one of the challenge's four; any other is one of the user's own."""
    return split in tuple(Split)


def split_of(path: Path) -> str:
    """Read the split off a config's file name: a `Split`, or the name itself for a split of the user's own.

    `LUMIR25_VAL_HighField_Segmentation_evaluation_config.json` is out-of-domain, `lesions_evaluation_config.json` the
    split "lesions".

    Raises:
        ManifestError: nothing stands before the ending, or the name of an official split.
    """
    found = next((split for ending, split in _FILE_ENDINGS.items() if path.name.endswith(ending + _SUFFIX)), None)
    if found is not None:
        return found
    own = path.name.removesuffix(_SUFFIX)
    if not own or own == path.name or is_official(own):
        endings = ", ".join(f"*{ending}{_SUFFIX}" for ending in _FILE_ENDINGS)
        raise ManifestError(
            f"{path}: the file name tells no split; expected one of {endings}, or <name>{_SUFFIX} for a split of your "
            "own, with a name that no split of the challenge has. Rename the file."
        )
    return own


class MetricEntry(BaseModel):
    """One metric of a config; `name` is its key in the result, `dest` the kind of label map it is measured on.

    A config calls the kind `metric`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["ndv", "dice", "hd95", "tre"] = Field(alias="metric")
    labels: tuple[NonNegativeInt, ...] = ()
    dest: str | None = None

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if self.kind in ("dice", "hd95") and not self.labels:
            raise ValueError(f"{self.kind} without labels; expected the list of label ids to score")
        return self

    @property
    def folder(self) -> str:
        """The word in place of `images` in the folder of the label maps or landmarks."""
        return self.dest or ("landmarks" if self.kind == "tre" else "labels")


class EvaluationConfig(BaseModel):
    """One `*_evaluation_config.json`; made by `read_evaluation_config`. Paths are relative to the file's folder.

    The file lists its metrics under the key `evaluation_methods`.
    """

    name: str
    metrics: Annotated[tuple[MetricEntry, ...], Field(alias="evaluation_methods", min_length=1)]
    expected_shape: tuple[PositiveInt, PositiveInt, PositiveInt, Literal[3]]
    eval_pairs: Annotated[tuple[Pair, ...], Field(min_length=1)]
    masked_evaluation: Literal[False] = False  # the LUMIR configs never mask

    _path: Path = PrivateAttr()

    @model_validator(mode="after")
    def _names_are_usable(self) -> Self:
        repeated = [name for name, times in Counter(metric.name for metric in self.metrics).items() if times > 1]
        if repeated:
            raise ValueError(f"evaluation_methods: the metric names {repeated} occur twice; expected unique names")
        for pair in self.eval_pairs:
            _ = pair.case_name  # raises for a file name without subject and modality
            for image in (pair.fixed, pair.moving):
                beside_image(image, "labels")
        return self

    @property
    def path(self) -> Path:
        """The file this config was read from."""
        return self._path

    @property
    def split(self) -> str:
        """What this config scores: a `Split`, or a split of the user's own."""
        return split_of(self._path)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) in voxels of every image and label map of the config."""
        return self.expected_shape[:3]


def beside_image(image: Path, folder: str) -> Path:
    """The path of the label map (`folder` "labels") or the landmarks ("landmarks") of an image.

    Raises:
        ManifestError: the image's folder is not called `images...`.
    """
    parent = image.parent.as_posix()
    if "images" not in parent:
        raise ManifestError(
            f"{image}: found folder {parent!r}; expected one like imagesVal, beside labelsVal and landmarksVal. "
            "Rename the folder."
        )
    return Path(parent.replace("images", folder)) / image.name


def read_evaluation_config(path: Path) -> EvaluationConfig:
    """Read and check one evaluation config.

    Raises:
        ManifestError: the file is missing, is not JSON, lacks or misuses a key, or its name tells no split.
    """
    split_of(path)
    config = read_json_model(path, EvaluationConfig)
    config._path = path
    return config


def find_evaluation_files(root: Path) -> list[Path]:
    """The paths of the evaluation configs in a ground-truth folder, by name."""
    return sorted(root.glob(f"*{_SUFFIX}"))


def files_of(*folders: Path | None) -> list[Path]:
    """The files of ground-truth folders and folders of fields that scoring reads: JSON files, images, maps, fields."""
    patterns = (f"*{_SUFFIX}", "*dataset.json", "lumirkit_status*.json", "disp_*.json", "**/*.nii", "**/*.nii.gz")
    return [path for folder in folders if folder is not None for pattern in patterns for path in folder.glob(pattern)]


def find_evaluation_configs(root: Path) -> list[EvaluationConfig]:
    """Read every evaluation config of a ground-truth folder, in the order of `Split`; splits of one's own come last.

    Raises:
        ManifestError: there is none, two are of the same split, or one cannot be used.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; expected a ground-truth folder with *{_SUFFIX} in it.")
    configs = [read_evaluation_config(path) for path in find_evaluation_files(root)]
    if not configs:
        raise ManifestError(
            f"{root}: found no *{_SUFFIX}; expected one for each split. Copy the organisers' configs there."
        )
    for split, times in Counter(config.split for config in configs).items():
        if times > 1:
            names = ", ".join(config.path.name for config in configs if config.split == split)
            raise ManifestError(f"{root}: found {names}; expected one config for {split}. Move the others away.")
    order: list[str] = list(Split)
    return sorted(
        configs,
        key=lambda config: (order.index(config.split) if is_official(config.split) else len(order), config.split),
    )
