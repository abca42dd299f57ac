"""Typed training recipes: YAML in, checked before anything starts, resolved copy out."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi
from pathlib import Path
from typing import Any, Literal, Self, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from registration.sitreg import Convolutions, SITRegConfig
from train.augment import Augmentation
from train.synthetic import Synthetic

Change = tuple[str, Any]
"""A key of a recipe, such as `stages.0.epochs`, and the value that it is given."""

_ALL_STAGES = "stages.*."


class RecipeError(ValueError):
    """A recipe cannot be used; the message says file, key, found and expected."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Losses(_Part):
    """Weighted terms of a pair, both directions, and of the cycle of a triplet."""

    ncc_weight: NonNegativeFloat = 1.0
    ncc_window_vox: PositiveInt = 11
    """Edge of the local NCC window in voxels of the network's grid; odd."""
    diffusion_weight: NonNegativeFloat = 1.0
    ndv_weight: NonNegativeFloat = 0.0
    """Weight of the sum over voxels of the non-diffeomorphic volume (NDV); the reference fine-tunes with 1e-5."""
    intermediate_weight: NonNegativeFloat = 0.01
    """Weight of the same losses on the registration reached after each coarser level; 0 leaves them out."""
    dice_weight: NonNegativeFloat = 0.0
    """Weight of the soft Dice loss of label maps."""
    dice_labels: PositiveInt = 16
    """How many labels, drawn anew at every step, the soft Dice is taken over."""
    displacement_weight: NonNegativeFloat = 0.0
    """Weight of the squared distance, in voxels squared, from the true field; for pairs that have one."""

    group_consistency_weight: NonNegativeFloat = 0.0
    """Weight of the cycle loss (the reference's is 40); above 0 the stage draws triplets instead of pairs."""
    group_consistency_ramp_epochs: NonNegativeFloat = 0.0
    """The weight above grows from 0 over this many epochs."""

    @field_validator("ncc_window_vox")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"found {window}; expected an odd window, which has a centre voxel")
        return window


class SyntheticSource(_Part):
    """Steps of a stage on generated pairs instead of real ones, with losses of their own."""

    share: float = Field(gt=0, le=1)
    """Probability that a step takes generated pairs: 1 - alpha of Roy et al.'s weighted transfer."""
    factors: Synthetic = Synthetic()
    losses: Losses = Losses(ncc_weight=0.0, dice_weight=1.0)
    """Two images of different contrast have no NCC, so it is the label maps that guide."""

    @model_validator(mode="after")
    def _of_pairs(self) -> Self:
        if self.losses.group_consistency_weight > 0:
            raise ValueError("losses.group_consistency_weight: expected 0; generated samples are pairs")
        return self


class Stage(_Part):
    """One part of the schedule, with its own length, learning rate and losses."""

    epochs: PositiveInt
    items_per_epoch: PositiveInt
    """Pairs, or triplets where `losses` weight group consistency."""
    batch_size: PositiveInt = 1
    samples_at_once: PositiveInt | None = None
    """Samples of a process's share that are in memory together; gradients add up over the others. None for all."""
    learning_rate: PositiveFloat
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: the learning rate falls to 0 over the stage."""
    gradient_clip_norm: PositiveFloat | None = None
    """Longest gradient (2-norm over all parameters) that a step follows unshortened."""
    frozen: tuple[str, ...] = ()
    """Patterns of parameter names that this stage leaves as they are, such as `extractor.*`."""
    augmentation: Augmentation = Augmentation()
    losses: Losses = Losses()
    """Of real images."""
    synthetic: SyntheticSource | None = None

    @model_validator(mode="after")
    def _guided_by_what_there_is(self) -> Self:
        if self.losses.displacement_weight > 0:
            raise ValueError("losses.displacement_weight: real pairs have no true field; expected 0")
        if self.losses.dice_weight > 0 and self.losses.group_consistency_weight > 0:
            raise ValueError("losses.dice_weight: labels guide pairs; expected 0 beside group_consistency_weight")
        return self

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; a last, smaller batch is filled up."""
        return -(-self.items_per_epoch // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    @property
    def images_per_item(self) -> int:
        """2 for pairs, 3 for triplets."""
        return 3 if self.losses.group_consistency_weight > 0 else 2

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step of this stage, counted from 0."""
        share = (1 + cos(pi * step / self.steps)) / 2 if self.schedule == "cosine" else 1.0
        return self.learning_rate * share

    def cycle_weight_at(self, step: int) -> float:
        """Weight of the cycle loss at a step of this stage, counted from 0."""
        ramp = self.losses.group_consistency_ramp_epochs * self.steps_per_epoch
        return self.losses.group_consistency_weight * (min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0)


class ValidationPlan(_Part):
    """How often a run is scored on the validation pairs of its data, and on how many."""

    every_epochs: PositiveInt = 1
    pairs_per_split: PositiveInt = 4
    """The first so many pairs of each split; those of an epoch cost about as many seconds on a CPU."""


class Recipe(_Part):
    """Everything that determines a training run but the data and the machine."""

    name: str
    seed: int = 0
    network: SITRegConfig
    convolutions: Convolutions = Convolutions.FLOAT32
    """bfloat16 is faster; weights, statistics, fields and losses stay in float32."""
    recompute: bool = False
    """Keep only what goes from level to level for the backward pass: a fraction of the memory for more time."""
    n_images: int | None = Field(default=None, ge=2)
    """Train on so many of the images only; of one `subset_seed` fewer images are among more."""
    subset_seed: int = 0
    """Draws which images those are; members of an ensemble, whose seeds differ, share them."""
    initial_weights: Path | None = None
    """Weight file of the same network to start from; None starts from random numbers."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Weights and validation use a running mean of the parameters, which keeps this share of itself each step."""
    validation: ValidationPlan | None = None
    """None for no validation; the weights with the best score are then not kept apart."""
    kept_checkpoints: PositiveInt = 2

    def start_of(self, number: int) -> int:
        """Steps that are done, over all stages, when stage `number` begins."""
        return sum(stage.steps for stage in self.stages[:number])


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides, such as `stages.0.epochs=3`.

    Raises:
        RecipeError: the file cannot be read, or a key is unknown, missing, of a wrong type or impossible.
    """
    return make_recipe(read_settings(path), [parse_override(text) for text in overrides], str(path))


def parse_override(text: str) -> Change:
    """Read `key=value`; the value is YAML.

    Raises:
        RecipeError: it is not of that form.
    """
    key, separator, value = text.partition("=")
    if not separator:
        raise RecipeError(f"--set {text}: found no '='; expected key=value, such as seed=1")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text}: the value is not YAML: {error}") from error


def read_settings(path: Path) -> DictConfig:
    """The content of a YAML file, not yet checked.

    Raises:
        RecipeError: the file cannot be read, or holds no mapping.
    """
    try:
        settings = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; the shipped ones are in train/recipes/.") from error
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise RecipeError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(settings, DictConfig):
        raise RecipeError(f"{path}: not valid: found a list; expected the keys of a recipe.")
    return settings


def make_recipe(settings: DictConfig, changes: Sequence[Change], origin: str, stages: int | None = None) -> Recipe:
    """Check settings with some of them changed; a key `stages.*.…` means all stages.

    Args:
        origin: what an error message calls the settings.
        stages: how many of the stages, counted from the first, belong to the recipe; None for all.

    Raises:
        RecipeError: a key is unknown, missing, of a wrong type or impossible.
    """
    changed = settings.copy()
    try:
        for pattern, value in changes:
            for key in _keys(pattern, changed):
                OmegaConf.update(changed, key, value, merge=False)
        content = cast(dict[str, Any], OmegaConf.to_container(changed, resolve=True))
    except (OmegaConfBaseException, TypeError) as error:
        raise RecipeError(f"{origin}: the changed key {pattern} does not fit it: {error}") from error
    if stages is not None:
        content["stages"] = content["stages"][:stages]
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: the recipe is not valid; correct these keys:\n{list_problems(error)}") from error


def list_problems(error: ValidationError) -> str:
    """One line for every key that was refused."""
    return "\n".join(f"  {'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())


def _keys(pattern: str, settings: DictConfig) -> list[str]:
    if not pattern.startswith(_ALL_STAGES):
        return [pattern]
    return [f"stages.{number}.{pattern.removeprefix(_ALL_STAGES)}" for number in range(len(settings.get("stages", ())))]


def recipe_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML text."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
