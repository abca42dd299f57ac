"""What a LUMIR task consists of: counts, id ranges, pairs, shape and label ids, read from the YAML file of its year."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lumirkit.data_manifests.dataset import ImageName, ManifestError
from lumirkit.data_manifests.evaluation_config import Split
from lumirkit.data_manifests.structures import structures

TASKS = ("LUMIR24", "LUMIR25")

ModalityNumber = Annotated[str, Field(pattern=r"^\d{4}$")]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingFacts(_Facts):
    """The training images: subjects first to last, both included, of one modality."""

    first: NonNegativeInt
    last: NonNegativeInt
    modality: ModalityNumber

    @property
    def images(self) -> list[ImageName]:
        """Subject and modality of every training image."""
        return [ImageName(f"{number:04d}", self.modality) for number in range(self.first, self.last + 1)]


class SplitFacts(_Facts):
    """The pairs of a split: fixed n with moving n + moving_offset, n from fixed_first to fixed_last, both included."""

    split: Split
    fixed_first: NonNegativeInt
    fixed_last: NonNegativeInt
    moving_offset: int
    fixed_modality: ModalityNumber = "0000"
    moving_modality: ModalityNumber = "0000"

    @property
    def pairs(self) -> list[tuple[ImageName, ImageName]]:
        """The fixed and the moving image of every pair."""
        return [
            (
                ImageName(f"{number:04d}", self.fixed_modality),
                ImageName(f"{number + self.moving_offset:04d}", self.moving_modality),
            )
            for number in range(self.fixed_first, self.fixed_last + 1)
        ]


class TaskFacts(_Facts):
    """One year's task; `image_shape` is (X, Y, Z) in voxels, `spacing_mm` the voxel size along these axes."""

    name: str
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    intensity_range: tuple[float, float]
    modalities: dict[ModalityNumber, str]
    training: TrainingFacts
    splits: tuple[SplitFacts, ...]

    @property
    def pairs(self) -> list[tuple[ImageName, ImageName]]:
        """The fixed and the moving image of every validation pair of every split."""
        return [pair for split in self.splits for pair in split.pairs]

    @property
    def labels(self) -> tuple[int, ...]:
        """The label ids that the segmentation splits are scored on, background (0) included, ascending."""
        return tuple(structures())

    @model_validator(mode="after")
    def _modalities_are_known(self) -> Self:
        used = {self.training.modality, *(m for s in self.splits for m in (s.fixed_modality, s.moving_modality))}
        if unknown := used - set(self.modalities):
            raise ValueError(f"modalities {sorted(unknown)} are used but not listed")
        return self


def load_facts(task: str) -> TaskFacts:
    """Read the facts of a task, "LUMIR24" or "LUMIR25".

    Raises:
        ManifestError: there are no facts of that name.
    """
    if task not in TASKS:
        raise ManifestError(f"task {task!r}: no facts of that name; expected one of {', '.join(TASKS)}.")
    text = resources.files("lumirkit.data_manifests").joinpath(f"{task.lower()}.yaml").read_text(encoding="utf-8")
    return TaskFacts.model_validate(yaml.safe_load(text))
