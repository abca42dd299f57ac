"""The learning rate over a stage: constant, falling as a cosine, or lowered whenever the loss no longer falls."""

from __future__ import annotations

from math import cos, inf, pi

import torch
from torch import Tensor

from lumirkit.train.recipe import Stage

_DROP = 0.1


class LearningRate:
    """The share of the stage's learning rate that a step takes; with `plateau` it depends on the losses so far."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._best = inf  # the lowest of the epochs' mean losses
        self._sum = 0.0  # the sum of the epoch's losses so far
        self._waited = self._drops = 0.0

    def share_at(self, step: int) -> float:
        """The factor of the stage's learning rate at a step, counted from 0."""
        if self._stage.schedule == "cosine":
            return (1 + cos(pi * step / self._stage.steps)) / 2
        return _DROP**self._drops

    def after(self, step: int, loss: float) -> None:
        """Note the loss of a step; with `plateau`, the end of an epoch may lower the rate of the next ones."""
        self._sum += loss
        if (step + 1) % self._stage.steps_per_epoch:
            return
        mean, self._sum = self._sum / self._stage.steps_per_epoch, 0.0
        self._waited = 0.0 if mean < self._best else self._waited + 1
        self._best = min(self._best, mean)
        if self._stage.schedule == "plateau" and self._waited > self._stage.plateau_patience_epochs:
            self._drops, self._waited = self._drops + 1, 0.0

    def state(self) -> Tensor:
        """What continuing a stage needs to know."""
        return torch.tensor([self._best, self._sum, self._waited, self._drops], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Continue from a `state`."""
        self._best, self._sum, self._waited, self._drops = state.tolist()
