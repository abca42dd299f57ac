"""One optimizer step of a stage: batch in, gradients of all processes averaged, parameters changed."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

from lumirkit.base.errors import KitError
from lumirkit.registration.network import Network
from lumirkit.train.batch import Batch, Batches
from lumirkit.train.data import GroupSampler
from lumirkit.train.gradients import pair_step, shared_triplet_step, triplet_step
from lumirkit.train.learning_rate import LearningRate
from lumirkit.train.objective import Objective, Terms
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import RecipeError, Stage
from lumirkit.train.sharing import share_of_batch
from lumirkit.train.weighting import LearnedWeights

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
_MOMENTS, _WEIGHTS, _SCHEDULE = "optimizer/", "weights/", "schedule"


class TrainingError(KitError):
    """Training cannot go on; the message says where it stopped and what is left."""

    exit_status = 1


class Stepper:
    """Takes the steps of one stage."""

    def __init__(
        self, network: Network, stage: Stage, number: int, sampler: GroupSampler, processes: Processes
    ) -> None:
        """Prepare stage `number` with an optimizer of its own.

        Raises:
            RecipeError: the batch cannot be shared by the processes, or the frozen patterns are impossible.
        """
        self.stage, self._network, self._sampler, self._processes = stage, network, sampler, processes
        self._share = share_of_batch(stage, number, processes)
        self.batches = Batches(stage, sampler, self._share.places, network)
        self._schedule = LearningRate(stage)
        self.learning_rate = stage.learning_rate
        """The learning rate of the last step."""
        self._learned: LearnedWeights | None = None
        groups = [{"params": trained_parameters(network, stage), "full_rate": stage.learning_rate}]
        if stage.uncertainty is not None:
            terms = (name for losses in stage.all_losses for name in losses.guiding)
            self._learned = LearnedWeights(set(terms)).to(processes.device)
            groups.append({"params": [*self._learned.parameters()], "full_rate": stage.uncertainty.learning_rate})
        # A stage has its own optimizer: continuing another stage's would bring back that stage's learning rate.
        self._optimizer = torch.optim.Adam(groups)
        self._trained = nn.ModuleDict({"network": network} | ({"weights": self._learned} if self._learned else {}))

    @property
    def _parameters(self) -> list[Tensor]:
        """All tensors that the steps change."""
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def take(self, batch: Batch) -> Terms:
        """Take one step; returns the terms of the loss, averaged over all processes.

        Raises:
            TrainingError: the loss is NaN or inf, or the device's memory is too small; no parameter was changed.
        """
        share = self._schedule.share_at(batch.step)
        self.learning_rate = share * self.stage.learning_rate
        for group in self._optimizer.param_groups:
            group["lr"] = share * group["full_rate"]
        self._optimizer.zero_grad(set_to_none=True)
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
        self._optimizer.step()
        self._schedule.after(batch.step, terms["loss"])
        return terms

    def state(self) -> dict[str, Tensor]:
        """The state to continue this stage from, beside the network: moments, learned weights and schedule."""
        moments: Mapping[str, Any] = get_optimizer_state_dict(self._trained, self._optimizer, options=_FLAT)
        state = {f"{_MOMENTS}{name}": value for name, value in moments.items() if isinstance(value, Tensor)}
        if self._learned is not None:
            state |= {f"{_WEIGHTS}{name}": tensor for name, tensor in self._learned.state_dict().items()}
        return state | {_SCHEDULE: self._schedule.state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`; the learning rate stays that of the stage."""
        if self._learned is not None:
            self._learned.load_state_dict(_part_of(state, _WEIGHTS))
        self._schedule.load(state[_SCHEDULE])
        template: Mapping[str, Any] = get_optimizer_state_dict(self._trained, self._optimizer, options=_FLAT)
        # A parameter that no step has used yet, the weight of a term of another source, has no moments to load.
        unused = {name: torch.zeros_like(value) for name, value in template.items() if isinstance(value, Tensor)}
        flat: dict[str, Any] = {**template, **unused, **_part_of(state, _MOMENTS)}
        set_optimizer_state_dict(self._trained, self._optimizer, flat, options=_FLAT)

    def _gradients(self, batch: Batch) -> Terms:
        """Add the mean of the gradients of this process's share, some samples at once; returns the mean terms."""
        parts = batch.parts(self.stage.samples_at_once)
        terms = [self._gradients_of_part(part) for part in parts]
        if len(parts) > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(parts)
        return {name: sum(part[name] for part in terms) / len(terms) for name in terms[0]}

    def _gradients_of_part(self, batch: Batch) -> Terms:
        objective = Objective((batch.source or self.stage).losses, self._learned)
        views, guidance = self.batches.prepare(batch)
        if len(views) == 2:
            fixed, moving = views
            return pair_step(self._network, fixed, moving, objective, guidance)
        weight = self.stage.cycle_weight_at(batch.step)
        if self._share.pair is None:
            return triplet_step(self._network, views, objective, weight)
        pair, from_all = self._share.pair, self._processes.from_trio
        return shared_triplet_step(self._network, views, objective, weight, pair, from_all)

    def _not_finite(self, batch: Batch, own: Terms, terms: Terms) -> str:
        names = self._sampler.names(batch.samples) if batch.images else f"generated pairs {batch.samples}"
        guilty = "" if isfinite(own["loss"]) else names
        names = "; ".join(filter(None, self._processes.gather(guilty)))
        return (
            f"step {batch.step + 1} of the stage: the loss is {terms['loss']} on {names}; training stopped, the last "
            "checkpoint is good. Lower the learning rate, or look for damaged training images with "
            "`lumirkit manifest check`."
        )

    def _too_large(self, batch: Batch, error: torch.OutOfMemoryError) -> str:
        shape = " x ".join(map(str, self._sampler.images.shape))
        return (
            f"step {batch.step + 1} of the stage: {self._processes.device} has too little memory for "
            f"{len(batch.samples)} samples of {shape} voxels; the last checkpoint is good. Set the stage's "
            "samples_at_once=1, recompute=true, convolutions=bfloat16, a lower batch_size (or more processes to share "
            f"it), or network.resolution_vox=2, with --set and a new --out. {str(error).splitlines()[0]}"
        )


def _part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def check_stages(network: Network, stages: Sequence[Stage], processes: Processes) -> None:
    """Check, before the first stage begins, that all stages of a recipe can be trained by these processes.

    Raises:
        RecipeError: a batch cannot be shared, or the frozen patterns of a stage are impossible.
    """
    for number, stage in enumerate(stages):
        share_of_batch(stage, number, processes)
        trained_parameters(network, stage)


def trained_parameters(network: Network, stage: Stage) -> list[Tensor]:
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
