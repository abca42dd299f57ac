"""Training as a user starts it: on a device, for a time, together with the processes that were started with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.registration.device import choose_device
from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train
from lumirkit.train.members import train_members
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import load_recipe


def launch_training(
    recipe: Path,
    overrides: Sequence[str],
    data: Path,
    out: Path,
    device: str = "auto",
    members: int | None = None,
    deadline: Deadline | None = None,
    cache: Path | None = None,
    allow_other_images: bool = False,
) -> list[Path]:
    """Train a recipe, or several seeds of it, in all the processes that torchrun or srun started.

    Args:
        overrides: `key=value` changes of the recipe.
        device: auto, cpu, cuda or cuda:<n>.
        members: how many seeds, each in `out/seed<n>`; None for the recipe's own, in `out`.
        deadline: when to stop with a checkpoint, from which a later call continues; None to train to the end.
        allow_other_images: continue a run on other images than it has been trained on so far.

    Returns:
        The weights, in the first process of a run; nothing in the others.

    Raises:
        KitError: as `train` raises it.
    """
    loaded = load_recipe(recipe, overrides)
    deadline = deadline or Deadline()
    with Processes.joined(choose_device(device)) as processes:
        if members is None:
            weights = [train(loaded, data, out, processes, deadline, cache, allow_other_images=allow_other_images)]
        else:
            weights = train_members(loaded, data, out, processes, members, deadline, cache, allow_other_images)
        return weights if processes.is_first else []
