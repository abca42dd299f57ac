"""One optimizer step of a stage: images in, gradients of all processes averaged, parameters changed."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from registration.grid import coarse_shape
from registration.sitreg import SITReg
from train.augment import Augmentation
from train.data import GroupSampler
from train.processes import Processes
from train.recipe import RecipeError, Stage
from train.sharing import share_of_batch
from train.stages import (
    Guidance,
    Terms,
    View,
    as_views,
    guidance_of,
    make_view,
    pair_step,
    shared_triplet_step,
    triplet_step,
    views_of,
)
from train.synthetic import generate_pair


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what is left."""


@dataclass(frozen=True)
class Batch:
    """What one process has to do in step `step` of a stage, counted from 0: numbers of its samples, and their images.

    The images are uint8 or float16, (batch, 1, X, Y, Z), one entry a place in the pair or triplet; none where the pairs
    are to be generated.
    """

    step: int
    samples: list[int]
    images: list[Tensor]
    labels: list[Tensor] = field(default_factory=list)
    """The label maps of the images (int16), where they guide."""

    def parts(self, at_once: int | None) -> list[Batch]:
        """The batch in pieces of `at_once` samples each; None for one piece."""
        if at_once is None or at_once >= len(self.samples):
            return [self]
        starts = range(0, len(self.samples), at_once)
        return [
            Batch(
                self.step,
                self.samples[start : start + at_once],
                [image[start : start + at_once] for image in self.images],
                [labels[start : start + at_once] for labels in self.labels],
            )
            for start in starts
        ]

    @property
    def is_synthetic(self) -> bool:
        """Whether its pairs are generated from the numbers of its samples."""
        return not self.images


class Stepper:
    """Loads the batches of one stage and takes its steps."""

    def __init__(self, network: SITReg, stage: Stage, number: int, sampler: GroupSampler, processes: Processes) -> None:
        """Prepare stage `number` with an optimizer of its own.

        Raises:
            RecipeError: the batch cannot be shared by the processes, or the frozen patterns are impossible.
        """
        self.stage, self._network, self._sampler, self._processes = stage, network, sampler, processes
        self._share = share_of_batch(stage, number, processes)
        self._parameters = trained_parameters(network, stage)
        # A stage has its own optimizer: continuing another stage's would bring back that stage's learning rate.
        self.optimizer = torch.optim.Adam(self._parameters, lr=stage.learning_rate)

    def load(self, step: int) -> Batch:
        """Read the images of this process's share of a step, in memory from which a GPU can fetch them."""
        samples = [step * self.stage.batch_size + place for place in self._share.places]
        source = self.stage.synthetic
        if source is not None and self._sampler.is_synthetic(step, source.share):
            return Batch(step, samples, [])
        images = self._sampler.batch(samples)
        if self._processes.device.type == "cuda":
            images = [image.pin_memory() for image in images]
        guided = self.stage.losses.dice_weight > 0
        return Batch(step, samples, images, self._sampler.labels(samples) if guided else [])

    def take(self, batch: Batch) -> Terms:
        """One step; returns the terms of the loss, averaged over all processes.

        Raises:
            TrainingError: the loss is NaN or inf, or the device's memory is too small; no parameter was changed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.learning_rate_at(batch.step)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            own = self._gradients(batch)
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._too_large(batch, error)) from error
        terms = self._processes.mean(own)
        if not isfinite(terms["loss"]):
            raise TrainingError(self._not_finite(batch, own, terms))
        self._processes.average_gradients(self._parameters)
        if self.stage.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.stage.gradient_clip_norm)
        self.optimizer.step()
        return terms

    def _gradients(self, batch: Batch) -> Terms:
        """Add the mean of the gradients of this process's share, some samples at once; returns the mean terms."""
        parts = batch.parts(self.stage.samples_at_once)
        terms = [self._gradients_of_part(part) for part in parts]
        if len(parts) > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(parts)
        return {name: sum(of_part[name] for of_part in terms) / len(terms) for name in terms[0]}

    def _gradients_of_part(self, batch: Batch) -> Terms:
        if batch.is_synthetic:
            return self._generated_step(batch)
        views, losses = self._views(batch), self.stage.losses
        if len(views) == 2:
            fixed, moving = views
            return pair_step(self._network, fixed, moving, losses, self._guidance(batch))
        weight = self.stage.cycle_weight_at(batch.step)
        if self._share.pair is None:
            return triplet_step(self._network, views, losses, weight)
        return shared_triplet_step(self._network, views, losses, weight, self._share.pair, self._processes.from_trio)

    def _guidance(self, batch: Batch) -> Guidance | None:
        """What the label maps of real images say, on the network's device and grid."""
        if not batch.labels:
            return None
        stride = self._network.config.resolution_vox
        fixed, moving = (labels.to(self._processes.device) for labels in batch.labels)
        return guidance_of(fixed, moving, self.stage.losses.dice_labels, self._label_seeds(batch), stride)

    def _label_seeds(self, batch: Batch) -> list[list[int]]:
        """What the choice of each sample's labels depends on."""
        return [[self._sampler.seed, self._sampler.stage, sample, 3] for sample in batch.samples]

    def _generated_step(self, batch: Batch) -> Terms:
        """As `_gradients`, on pairs made now, on the network's device and grid."""
        assert self.stage.synthetic is not None
        source, sampler = self.stage.synthetic, self._sampler
        shape = coarse_shape(sampler.images.shape, self._network.config.resolution_vox)
        with torch.no_grad():
            pairs = [
                generate_pair(source.factors, [sampler.seed, sampler.stage, sample], shape, self._processes.device)
                for sample in batch.samples
            ]
        views, guidance = as_views(pairs, source.losses.dice_labels, self._label_seeds(batch))
        return pair_step(self._network, *views, source.losses, guidance)

    def _views(self, batch: Batch) -> list[View]:
        """The images on the network's device and grid, each changed as its sample number says."""
        device, stride = self._processes.device, self._network.config.resolution_vox
        dtype = self._parameters[0].dtype
        images = [image.to(device, non_blocking=True).to(dtype) for image in batch.images]  # small on its way to a GPU
        if self.stage.augmentation == Augmentation():
            return views_of(images, stride)
        drawn = [self._sampler.appearances(sample, self.stage.augmentation) for sample in batch.samples]
        return [make_view(image, stride, looks) for image, looks in zip(images, zip(*drawn, strict=True), strict=True)]

    def _not_finite(self, batch: Batch, own: Terms, terms: Terms) -> str:
        names = f"generated pairs {batch.samples}" if batch.is_synthetic else self._sampler.names(batch.samples)
        guilty = "" if isfinite(own["loss"]) else names
        names = "; ".join(filter(None, self._processes.all_of(guilty)))
        return (
            f"step {batch.step + 1} of the stage: the loss is {terms['loss']} on {names}; training stopped, the last "
            "checkpoint is good. Lower the learning rate, or look for damaged training images with "
            "`lumirkit manifest check`."
        )

    def _too_large(self, batch: Batch, error: torch.OutOfMemoryError) -> str:
        shape = " x ".join(map(str, self._sampler.images.shape))
        return (
            f"step {batch.step + 1} of the stage: {self._processes.device} has too little memory for "
            f"{len(batch.samples)} samples of {shape} voxels; the last checkpoint is good. Set recompute=true, "
            "convolutions=bfloat16, a lower batch_size (or more processes to share it), or network.resolution_vox=2, "
            f"with --set and a new --out. {str(error).splitlines()[0]}"
        )


def check_stage(network: SITReg, stage: Stage, number: int, processes: Processes) -> None:
    """Check that a stage of the recipe can be trained by these processes.

    Raises:
        RecipeError: the batch cannot be shared, or the frozen patterns are impossible.
    """
    share_of_batch(stage, number, processes)
    trained_parameters(network, stage)


def trained_parameters(network: SITReg, stage: Stage) -> list[Tensor]:
    """Let the stage's frozen parameters take no gradient; returns all others.

    Raises:
        RecipeError: a pattern matches no parameter, or everything is frozen.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in stage.frozen:
        if not fnmatch.filter(names, pattern):
            raise RecipeError(f"frozen: {pattern!r} matches no parameter; their names are such as {names[0]}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not _matches(name, stage.frozen))
    trained: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise RecipeError(f"frozen: {list(stage.frozen)} match every parameter; nothing is left to train.")
    return trained


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
