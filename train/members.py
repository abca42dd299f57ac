"""The members of an ensemble: the same recipe from different seeds, each in a run folder of its own."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from train.loop import train
from train.recipe import Recipe


def train_members(
    recipe: Recipe, data: Path, out: Path, device: torch.device, members: int, minutes: float | None = None
) -> list[Path]:
    """Train the recipe with `members` seeds, counted from its own, one after the other; returns their weights.

    Each run lies in `out/seed<n>`. Called again, finished members are left alone and an interrupted one continues.

    Args:
        minutes: stop after this time, counted over all members.

    Raises:
        ManifestError, VolumeError, RecipeError, RequestError, TrainingError: as `train`.
    """
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    weights: list[Path] = []
    for seed in range(recipe.seed, recipe.seed + members):
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        if left is not None and left <= 0 and weights:
            break
        member = recipe.model_copy(update={"seed": seed})
        weights.append(train(member, data, out / f"seed{seed}", device, left))
    return weights
