"""The members of an ensemble: the same recipe from different seeds, each in a run folder of its own."""

from __future__ import annotations

from pathlib import Path

from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe


def train_members(
    recipe: Recipe,
    data: Path,
    out: Path,
    processes: Processes,
    members: int,
    deadline: Deadline | None = None,
    cache: Path | None = None,
    allow_other_images: bool = False,
) -> list[Path]:
    """Train the recipe with `members` seeds, counted from its own, one after the other; returns their weights.

    Each run lies in `out/seed<n>`. Called again, finished members are left alone and an interrupted one continues.

    Args:
        deadline: when to stop early; it holds for all members together.
        allow_other_images: as `train` has it.

    Raises:
        KitError: as `train` does.
    """
    deadline = deadline or Deadline()
    weights: list[Path] = []
    for seed in range(recipe.seed, recipe.seed + members):
        if weights and processes.any(deadline.passed):
            break
        member = recipe.model_copy(update={"seed": seed})
        folder = out / f"seed{seed}"
        weights.append(train(member, data, folder, processes, deadline, cache, allow_other_images=allow_other_images))
    return weights
