"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from registration.progress import Progress
from registration.sitreg import SITReg
from train.data import PairSampler, TrainingImages
from train.recipe import Recipe, Stage
from train.run_folder import RunFolder
from train.stages import pairwise_loss


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what is left."""


def train(recipe: Recipe, data: Path, out: Path, device: torch.device, minutes: float | None = None) -> Path:
    """Train a recipe on a dataset folder, or continue an interrupted run; returns the path of the weights.

    Args:
        data: folder with `*dataset.json` and the images.
        out: run folder.
        minutes: stop after this time, with a checkpoint to continue from.

    Raises:
        ManifestError, VolumeError, RecipeError: the data or the run folder cannot be used; nothing was started.
        TrainingError: the loss became NaN or inf.
    """
    deadline = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    images = TrainingImages(data)
    run = RunFolder(out, recipe, data)
    torch.manual_seed(recipe.seed)
    network = SITReg(recipe.network).to(device)
    network.convolutions, network.recompute = recipe.convolutions, recipe.recompute
    run.restore_network(network)
    first_stage, step = run.last_position()
    run.truncate_log(step)
    stage_start = sum(stage.epochs * stage.steps_per_epoch for stage in recipe.stages[:first_stage])
    for number, stage in enumerate(recipe.stages[first_stage:], start=first_stage):
        # A stage has its own optimizer: continuing another stage's would bring back that stage's learning rate.
        optimizer = torch.optim.Adam(network.parameters(), lr=stage.learning_rate)
        if step > stage_start:
            run.restore_optimizer(network, optimizer)
        step = _train_stage(network, optimizer, images, run, number, stage_start, step, deadline)
        stage_start += stage.epochs * stage.steps_per_epoch
        if time.monotonic() > deadline:
            break
    return run.weights


def _train_stage(
    network: SITReg,
    optimizer: torch.optim.Optimizer,
    images: TrainingImages,
    run: RunFolder,
    number: int,
    stage_start: int,
    step: int,
    deadline: float,
) -> int:
    """Train one stage from `step` (counted over all stages) to its end or the deadline; returns the step reached."""
    stage = run.recipe.stages[number]
    total = stage.epochs * stage.steps_per_epoch
    batches = _batches(images, run.recipe, number, skip=(step - stage_start) * stage.batch_size)
    with Progress(total, f"stage {number + 1} of {len(run.recipe.stages)}", initial=step - stage_start) as progress:
        for fixed, moving in batches:
            started = time.monotonic()
            step += 1
            terms = _step(network, optimizer, fixed, moving, stage, step)
            run.log(
                {"stage": number, "step": step, "epoch": (step - stage_start - 1) // stage.steps_per_epoch}
                | terms
                | {"learning_rate": stage.learning_rate, "seconds": round(time.monotonic() - started, 3)}
            )
            progress.advance(" ".join(f"{name} {value:.4f}" for name, value in terms.items()))
            out_of_time = time.monotonic() > deadline
            if (step - stage_start) % stage.steps_per_epoch == 0 or out_of_time:
                run.save(network, optimizer, number, step)
            if out_of_time:
                break
    return step


def _step(
    network: SITReg, optimizer: torch.optim.Optimizer, fixed: Tensor, moving: Tensor, stage: Stage, step: int
) -> dict[str, float]:
    device = next(network.parameters()).device
    optimizer.zero_grad(set_to_none=True)
    loss, terms = pairwise_loss(network, fixed.to(device), moving.to(device), stage.losses)
    if not torch.isfinite(loss):
        raise TrainingError(
            f"step {step}: the loss is {loss.item()}; training stopped, the last checkpoint is good. "
            "Lower the learning rate, or look for damaged training images with `lumirkit manifest check`."
        )
    loss.backward()
    optimizer.step()
    return terms


def _batches(images: TrainingImages, recipe: Recipe, number: int, skip: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """The batches of a stage that are still to be done."""
    stage = recipe.stages[number]
    length = stage.epochs * stage.steps_per_epoch * stage.batch_size
    pairs = PairSampler(images, recipe.seed, number, length)
    return DataLoader(Subset(pairs, range(skip, length)), batch_size=stage.batch_size, num_workers=recipe.data_workers)
