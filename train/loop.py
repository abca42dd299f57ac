"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from registration.progress import Progress
from registration.sitreg import SITReg
from train.augment import Augmentation
from train.data import GroupSampler, TrainingImages
from train.recipe import Recipe, RecipeError, Stage
from train.run_folder import RunFolder
from train.stages import Terms, View, make_view, pair_step, triplet_step, views_of


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
    samplers = [_sampler(images, recipe, number) for number in range(len(recipe.stages))]
    torch.manual_seed(recipe.seed)
    network = SITReg(recipe.network).to(device)
    network.convolutions, network.recompute = recipe.convolutions, recipe.recompute
    for stage in recipe.stages:
        _trained_parameters(network, stage)
    run = RunFolder(out, recipe, data)
    run.restore_network(network)
    step = run.last_step()
    run.truncate_log(step)
    stage_start = 0
    for number, stage in enumerate(recipe.stages):
        if step < stage_start + stage.steps:
            # A stage has its own optimizer: continuing another stage's would bring back that stage's learning rate.
            optimizer = torch.optim.Adam(_trained_parameters(network, stage), lr=stage.learning_rate)
            if step > stage_start:
                run.restore_optimizer(network, optimizer)
            step = _train_stage(network, optimizer, samplers[number], run, number, stage_start, step, deadline)
            if time.monotonic() > deadline:
                break
        stage_start += stage.steps
    return run.weights


def _train_stage(
    network: SITReg,
    optimizer: torch.optim.Optimizer,
    sampler: GroupSampler,
    run: RunFolder,
    number: int,
    stage_start: int,
    step: int,
    deadline: float,
) -> int:
    """Train one stage from `step` (counted over all stages) to its end or the deadline; returns the step reached."""
    stage = run.recipe.stages[number]
    done = step - stage_start
    with Progress(stage.steps, f"stage {number + 1} of {len(run.recipe.stages)}", initial=done) as progress:
        for samples, images in _batches(sampler, stage, run.recipe.data_workers, done * stage.batch_size):
            started = time.monotonic()
            step += 1
            views = _views(network, sampler, stage, samples.tolist(), images)
            names = "; ".join(sampler.names(sample) for sample in samples.tolist())
            terms = _step(network, optimizer, views, stage, step - stage_start - 1, names, step)
            run.log(
                {"stage": number, "step": step, "epoch": (step - stage_start - 1) // stage.steps_per_epoch}
                | terms
                | {
                    "learning_rate": stage.learning_rate_at(step - stage_start - 1),
                    "seconds": round(time.monotonic() - started, 3),
                }
            )
            progress.advance(" ".join(f"{name} {value:.4f}" for name, value in terms.items()))
            out_of_time = time.monotonic() > deadline
            if (step - stage_start) % stage.steps_per_epoch == 0 or out_of_time:
                run.save(network, optimizer, number, step)
            if out_of_time:
                break
    return step


def _step(
    network: SITReg,
    optimizer: torch.optim.Optimizer,
    views: Sequence[View],
    stage: Stage,
    stage_step: int,
    names: str,
    step: int,
) -> Terms:
    """One optimizer step on a batch of pairs or triplets; `stage_step` counts from the start of the stage."""
    for group in optimizer.param_groups:
        group["lr"] = stage.learning_rate_at(stage_step)
    optimizer.zero_grad(set_to_none=True)
    if len(views) == 2:
        fixed, moving = views
        terms = pair_step(network, fixed, moving, stage.losses)
    else:
        terms = triplet_step(network, views, stage.losses, stage.cycle_weight_at(stage_step))
    if not isfinite(terms["loss"]):
        raise TrainingError(
            f"step {step}: the loss is {terms['loss']} on {names}; training stopped, the last checkpoint is good. "
            "Lower the learning rate, or look for damaged training images with `lumirkit manifest check`."
        )
    if stage.gradient_clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), stage.gradient_clip_norm)
    optimizer.step()
    return terms


def _trained_parameters(network: SITReg, stage: Stage) -> list[Tensor]:
    """Let the stage's frozen parameters take no gradient; returns all others.

    Raises:
        RecipeError: a pattern matches no parameter, or everything is frozen.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in stage.frozen:
        if not fnmatch.filter(names, pattern):
            raise RecipeError(f"frozen: {pattern!r} matches no parameter; their names are such as {names[0]}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not any(fnmatch.fnmatchcase(name, pattern) for pattern in stage.frozen))
    trained: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise RecipeError(f"frozen: {list(stage.frozen)} match every parameter; nothing is left to train.")
    return trained


def _views(
    network: SITReg, sampler: GroupSampler, stage: Stage, samples: Sequence[int], images: Sequence[Tensor]
) -> list[View]:
    """The images of a batch on the network's device and grid, each changed as its sample number says."""
    device, stride = next(network.parameters()).device, network.config.resolution_vox
    if stage.augmentation == Augmentation():
        return views_of((batch.to(device) for batch in images), stride)
    appearances = zip(*(sampler.appearances(sample, stage.augmentation) for sample in samples), strict=True)
    return [make_view(batch.to(device), stride, drawn) for batch, drawn in zip(images, appearances, strict=True)]


def _sampler(images: TrainingImages, recipe: Recipe, number: int) -> GroupSampler:
    stage = recipe.stages[number]
    return GroupSampler(images, recipe.seed, number, stage.steps * stage.batch_size, stage.images_per_item)


def _batches(sampler: GroupSampler, stage: Stage, workers: int, skip: int) -> DataLoader[Any]:
    """The batches of a stage that are still to be done: numbers of the samples, and one batch of images a place."""
    left = Subset(sampler, range(skip, len(sampler)))
    return DataLoader(left, batch_size=stage.batch_size, num_workers=workers)
