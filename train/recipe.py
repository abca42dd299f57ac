"""Typed training recipes: YAML in, checked before anything starts, resolved copy out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from lumirkit.base.errors import KitError
from lumirkit.base.refused import list_problems
from lumirkit.registration.architecture import NetworkConfig
from lumirkit.registration.precision import Precision
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.train.augment import Augmentation
from lumirkit.train.deform import DeformationRanges
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.settings import Settings
from lumirkit.train.sources import OneImageSource, Source, SyntheticSource
from lumirkit.train.weighting import Uncertainty

Change = tuple[str, Any]
"""A key of a recipe, such as `stages.0.epochs`, and the value that it is given."""

_ALL_STAGES = "stages.*."


class RecipeError(KitError):
    """A recipe cannot be used; the message says file, key, found and expected."""


class Stage(Settings):
    """One part of the schedule, with its own length, learning rate and losses."""

    epochs: PositiveInt
    """How often the pairs of an epoch are drawn anew; a checkpoint is written after each."""
    items_per_epoch: PositiveInt
    """The number of pairs, or of triplets where `losses` weight group consistency."""
    batch_size: PositiveInt = 1
    """How many pairs, or triplets, a step takes the mean gradient of, over all processes."""
    samples_at_once: PositiveInt | None = None
    """How many samples of a process's share are in memory together; gradients add up over the others. None for all."""
    n_images: int | None = Field(default=None, ge=2)
    """Train on so many of the images only; fewer are among more. None for all."""
    learning_rate: PositiveFloat
    """The learning rate of Adam, at the start where a schedule lowers it."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """With cosine the learning rate falls to 0 over the stage, with plateau to a tenth once the loss falls no more."""
    plateau_patience_epochs: PositiveInt = 10
    """How many epochs without a lower mean loss `plateau` waits for."""
    gradient_clip_norm: PositiveFloat | None = None
    """Longest gradient (2-norm over all parameters) that a step follows unshortened."""
    frozen: tuple[str, ...] = ()
    """Patterns of parameter names that this stage leaves as they are, such as `extractor.*`."""
    deformation: DeformationRanges = DeformationRanges()
    """The warps of the real images of pairs and triplets."""
    augmentation: Augmentation = Augmentation()
    """How the looks of each image are changed for the network; the losses see it as it is."""
    losses: LossSettings = LossSettings()
    """The losses of pairs or triplets of real images."""
    synthetic: SyntheticSource | None = None
    """The source of generated pairs; steps that no source takes are of real images."""
    one_image: OneImageSource | None = None
    """The source of pairs that are made from one real image each."""
    uncertainty: Uncertainty | None = None
    """Learn the weights of the guiding terms; None keeps those of the losses."""

    @model_validator(mode="after")
    def _guided_by_what_there_is(self) -> Self:
        if self.losses.displacement_weight > 0:
            raise ValueError("losses.displacement_weight: real pairs have no true field; expected 0")
        if self.losses.need_labels and self.losses.group_consistency_weight > 0:
            raise ValueError("losses.dice_weight: labels guide pairs; expected 0 beside group_consistency_weight")
        return self

    @model_validator(mode="after")
    def _shares_are_shares(self) -> Self:
        for progress in (0.0, 1.0):
            total = sum(source.share_at(progress) for source in self.sources)
            if total > 1:
                raise ValueError(f"the shares of synthetic and one_image: found {total:g} together; expected at most 1")
        return self

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of pairs beside pairs of real images."""
        return tuple(source for source in (self.synthetic, self.one_image) if source is not None)

    @property
    def draws_real(self) -> bool:
        """Whether some of the stage's steps may be on pairs or triplets of real images."""
        return any(sum(source.share_at(progress) for source in self.sources) < 1 for progress in (0.0, 1.0))

    @property
    def draws_images(self) -> bool:
        """Whether some of the stage's steps may need real images."""
        return self.draws_real or self.one_image is not None

    @property
    def all_losses(self) -> tuple[LossSettings, ...]:
        """The losses of all of the stage's steps, whatever their pairs come from."""
        return (*((self.losses,) if self.draws_real else ()), *(source.losses for source in self.sources))

    @property
    def needs_label_maps(self) -> bool:
        """Whether a loss of the stage needs label maps of real images."""
        real_pairs_do = self.draws_real and self.losses.need_labels
        return real_pairs_do or (self.one_image is not None and self.one_image.losses.need_labels)

    @property
    def steps_per_epoch(self) -> int:
        """The number of optimizer steps an epoch; a last, smaller batch is filled up."""
        return -(-self.items_per_epoch // self.batch_size)

    @property
    def steps(self) -> int:
        """The number of optimizer steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    @property
    def images_per_item(self) -> int:
        """The number of images in an item: 2 for pairs, 3 for triplets."""
        return 3 if self.losses.group_consistency_weight > 0 else 2

    def shares_at(self, step: int) -> list[float]:
        """The share of each of its sources at a step, counted from 0."""
        progress = step / max(1, self.steps - 1)
        return [source.share_at(progress) for source in self.sources]

    def cycle_weight_at(self, step: int) -> float:
        """The weight of the cycle loss at a step of this stage, counted from 0."""
        ramp = self.losses.group_consistency_ramp_epochs * self.steps_per_epoch
        return self.losses.group_consistency_weight * (min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0)


class ValidationPlan(Settings):
    """How often a run is scored on the validation pairs of its data, and on how many."""

    every_epochs: PositiveInt = 1
    """After how many epochs the network is scored; always after the last."""
    pairs_per_split: PositiveInt = 4
    """How many pairs, the first of each split, are scored; each costs about a second on a CPU."""


class Recipe(Settings):
    """Everything that determines a training run but the data and the machine."""

    name: str
    """The name of the run, for tables and cards."""
    seed: int = 0
    """It decides the first weights and all that is drawn; members of an ensemble differ in it alone."""
    network: NetworkConfig
    """What is trained."""
    convolutions: Precision = Precision.FLOAT32
    """The convolutions' number format: bfloat16 is faster; weights, statistics, fields and losses stay in float32."""
    recompute: bool = False
    """Keep only what goes from level to level for the backward pass: a fraction of the memory for more time."""
    subset_seed: int = 0
    """Draws which images are the `n_images` of a stage; members of an ensemble, whose seeds differ, share them."""
    initial_weights: Path | None = None
    """The weight file to start from; None starts from random numbers."""
    initial_parts: Literal["all", "matching"] = "all"
    """With all, the weights are of the same network; with matching, those whose name and shape fit are taken."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    """The parts of the schedule, one after the other."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Weights and validation use a running mean of the parameters, which keeps this share of itself each step."""
    validation: ValidationPlan | None = None
    """None means no validation; the weights with the best score are then not kept apart."""
    kept_checkpoints: PositiveInt = 2
    """How many of the last checkpoints stay on disk."""
    refinement: Refinement | None = Field(default=None, exclude=True)
    """How an ablation refines the registrations of this row; training knows nothing of it, so that rows with and
    without it share their models."""

    def start_of(self, number: int) -> int:
        """The number of steps that are done, over all stages, when stage `number` begins."""
        return sum(stage.steps for stage in self.stages[:number])

    @property
    def n_steps(self) -> int:
        """The number of steps of all stages."""
        return self.start_of(len(self.stages))


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
    """Read a YAML file; its content is not checked yet.

    A file that `extends` another one (named relative to its folder) has that one's keys where it has none of its own,
    and changes some inside its lists by `set`: keys such as `stages.*.losses.ncc_weight`, each with a value. A network
    of another architecture shares no keys with the one it replaces.

    Raises:
        RecipeError: the file or one that it extends cannot be read, or holds no mapping.
    """
    return _read_extended(path, ())


def _read_extended(path: Path, heirs: tuple[Path, ...]) -> DictConfig:
    """Read settings which the files `heirs` extend, one after the other."""
    if path.resolve() in heirs:
        raise RecipeError(f"{path}: extends itself, at last; expected recipes that end with one of its own.")
    settings = _read_mapping(path)
    if "extends" not in settings:
        return settings
    base = path.parent / str(settings.pop("extends"))
    changes, extended = settings.pop("set", {}), _read_extended(base, (*heirs, path.resolve()))
    architecture = OmegaConf.select(settings, "network.architecture")
    if architecture not in (None, OmegaConf.select(extended, "network.architecture", default="sitreg")):
        extended.pop("network", None)
    merged = cast(DictConfig, OmegaConf.merge(extended, settings))
    return _changed(merged, [(str(key), value) for key, value in changes.items()], str(path))


def _read_mapping(path: Path) -> DictConfig:
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
    changed = _changed(settings, changes, origin)
    try:
        content = cast(dict[str, Any], OmegaConf.to_container(changed, resolve=True))
    except OmegaConfBaseException as error:
        raise RecipeError(f"{origin}: {error}") from error
    if stages is not None:
        content["stages"] = content["stages"][:stages]
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: the recipe is not valid; correct these keys:\n{list_problems(error)}") from error


def _changed(settings: DictConfig, changes: Sequence[Change], origin: str) -> DictConfig:
    changed = settings.copy()
    for pattern, value in changes:
        try:
            for key in _keys(pattern, changed):
                OmegaConf.update(changed, key, value, merge=False)
        except (OmegaConfBaseException, TypeError) as error:
            raise RecipeError(f"{origin}: the changed key {pattern} does not fit it: {error}") from error
    return changed


def _keys(pattern: str, settings: DictConfig) -> list[str]:
    if not pattern.startswith(_ALL_STAGES):
        return [pattern]
    return [f"stages.{number}.{pattern.removeprefix(_ALL_STAGES)}" for number in range(len(settings.get("stages", ())))]


def recipe_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML text."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
