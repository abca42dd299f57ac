"""An ablation: rows of a table as changes of a recipe, and the training runs that they need, each planned once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, PositiveInt, ValidationError

from lumirkit.base.refused import list_problems
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.train.recipe import Change, Recipe, RecipeError, make_recipe, parse_override, read_settings
from lumirkit.train.settings import Settings
from lumirkit.train.shipped_recipes import find_recipe

Value = TypeVar("Value")


class Row(Settings):
    """One row as the file lists it; what it does not say, it takes from its parent."""

    name: str = Field(min_length=1)
    parent: str | None = None
    """The row that this one is a change of; None means the base recipe."""
    recipe: str | None = None
    """A recipe in place of the base recipe, named like that, for this row and those that change it."""
    adds: tuple[str, ...] = ()
    """Ingredients that this row has beside those of its parent: its new check marks in the table."""
    set: Mapping[str, Any] = {}
    """The keys of the recipe that change; `stages.*.…` means all stages."""
    stages: PositiveInt | None = None
    """How many of the base recipe's stages are trained."""
    members: PositiveInt | None = None
    """How many models, with seeds counted from the recipe's, are averaged."""


class AblationFile(Settings):
    """The content of an ablation file: a base recipe and rows."""

    name: str = Field(min_length=1)
    base: str | None = None
    """The recipe that the rows change: a file beside this one, or the name of a shipped recipe, such as lite."""
    columns: ColumnSet = ColumnSet.LEADERBOARD
    """What the rows are scored by, and the table and the statistics show."""
    rows: tuple[Row, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Run:
    """One training: a recipe with its seed, in a folder of its own.

    `start` is a run that trains the first stages of this one's recipe; its last checkpoint is where this one begins.
    """

    folder: str
    recipe: Recipe
    start: Run | None = None


@dataclass(frozen=True)
class PlannedRow:
    """One row with the runs that train its models; their average registers."""

    name: str
    folder: str
    ingredients: tuple[str, ...]
    runs: tuple[Run, ...]
    refinement: Refinement | None = None
    """What is done to the average's registration of every pair."""


@dataclass(frozen=True)
class Ablation:
    """Rows in the order of the table, and the runs of all of them, each after the one it starts from."""

    name: str
    rows: tuple[PlannedRow, ...]
    runs: tuple[Run, ...]
    columns: ColumnSet


def load_ablation(path: Path, base: Path | None = None, overrides: Sequence[str] = ()) -> Ablation:
    """Read an ablation file and plan its runs.

    Args:
        base: a recipe in place of the one that the file names.
        overrides: `key=value` changes of the base recipe, before those of the rows.

    Raises:
        RecipeError: the file, a recipe or a row cannot be used.
        RequestError: a recipe that it names does not exist.
    """
    try:
        file = AblationFile.model_validate(OmegaConf.to_container(read_settings(path), resolve=True))
    except ValidationError as error:
        raise RecipeError(f"{path}: the ablation is not valid; correct these keys:\n{list_problems(error)}") from error
    base_recipe = base or _recipe_named(file.base, path)
    lineages = _lineages(file.rows, path)
    changes, read = [parse_override(text) for text in overrides], cache(read_settings)
    names: dict[str, str] = {}
    members: dict[str, list[Recipe]] = {}
    for row in file.rows:
        own_base = _last([ancestor.recipe for ancestor in lineages[row.name]])
        settings = read(_recipe_named(own_base, path) if own_base else base_recipe)
        recipe = _recipe_of(settings, changes, lineages[row.name], f"{path}: row {row.name}")
        # Equal recipes are one training, under the name of the first.
        name = names.setdefault(_training(recipe), recipe.name)
        number = _last([ancestor.members for ancestor in lineages[row.name]]) or 1
        seeds = range(recipe.seed, recipe.seed + number)
        members[row.name] = [recipe.model_copy(update={"name": name, "seed": seed}) for seed in seeds]
    runs = _plan_runs(list(chain.from_iterable(members.values())))
    rows = tuple(
        PlannedRow(
            row.name,
            folder_name(row.name),
            tuple(dict.fromkeys(added for ancestor in lineages[row.name] for added in ancestor.adds)),
            tuple(runs[_training(recipe), recipe.seed] for recipe in members[row.name]),
            members[row.name][0].refinement,
        )
        for row in file.rows
    )
    return Ablation(file.name, rows, tuple(runs.values()), file.columns)


def _recipe_named(name: str | None, ablation: Path) -> Path:
    """The file of a recipe that an ablation file names: one beside it, or a shipped one.

    Raises:
        RecipeError: it names none.
        RequestError: there is no such recipe.
    """
    if name is None:
        raise RecipeError(f"{ablation}: names no base recipe. Add `base: lite`, for example, or give --base.")
    beside = ablation.parent / name
    return beside if beside.is_file() else find_recipe(name)


def folder_name(row: str) -> str:
    """Make a folder's name of a row's name: `+NDV+GC` -> `NDV_GC`.

    Raises:
        RecipeError: nothing of it is left.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", row).strip("._")
    if not name:
        raise RecipeError(f"row {row}: found no letter or digit in its name; it names a folder. Give it one.")
    return name


def _lineages(rows: Sequence[Row], path: Path) -> dict[str, list[Row]]:
    """List for every row its ancestors and itself, the eldest first.

    Raises:
        RecipeError: two rows share a name (or a folder), or a parent is missing or comes later.
    """
    lineages: dict[str, list[Row]] = {}
    folders: dict[str, str] = {}
    for row in rows:
        folder = folder_name(row.name)
        if folder in folders:
            raise RecipeError(
                f"{path}: rows {folders[folder]} and {row.name} share the folder {folder}. Give each row a name."
            )
        if row.parent is not None and row.parent not in lineages:
            raise RecipeError(
                f"{path}: row {row.name}: its parent {row.parent} is no earlier row; those are "
                f"{', '.join(lineages) or 'none'}. Correct the name, or move the parent up."
            )
        folders[folder] = row.name
        lineages[row.name] = [*(lineages[row.parent] if row.parent is not None else ()), row]
    return lineages


def _recipe_of(settings: DictConfig, changes: Sequence[Change], lineage: Sequence[Row], origin: str) -> Recipe:
    stages = _last([row.stages for row in lineage])
    available = len(settings.get("stages", ()))
    if stages is not None and stages > available:
        raise RecipeError(
            f"{origin}: trains {stages} stages; the base recipe {settings.get('name')} has {available}. "
            "Add stages to it, or take another base."
        )
    own = [change for row in lineage for change in row.set.items()]
    return make_recipe(settings, [*changes, *own, ("name", folder_name(lineage[-1].name))], origin, stages)


def _last(values: Sequence[Value | None]) -> Value | None:
    return next((value for value in reversed(values) if value is not None), None)


def _plan_runs(recipes: Sequence[Recipe]) -> dict[tuple[str, int], Run]:
    """Plan one run for every different recipe and seed; each starts from the longest run of its first stages."""
    runs: dict[tuple[str, int], Run] = {}
    for recipe in sorted(recipes, key=lambda recipe: len(recipe.stages)):
        counts = range(len(recipe.stages) - 1, 0, -1)
        shorter = (runs.get((_training(recipe, stages), recipe.seed)) for stages in counts)
        start = next((run for run in shorter if run is not None), None)
        run = Run(f"{recipe.name}/seed{recipe.seed}", recipe, start)
        runs.setdefault((_training(recipe), recipe.seed), run)
    return runs


def _training(recipe: Recipe, stages: int | None = None) -> str:
    """A text that two recipes share if they train the same, up to seeds, in their first `stages`, or in all."""
    return recipe.model_copy(update={"name": "", "seed": 0, "stages": recipe.stages[:stages]}).model_dump_json()
