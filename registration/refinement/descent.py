"""Descent on the loss of one pair: momentum, one step size for all numbers, and back to the best where a step fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import torch
from torch import Tensor

_MOMENTUM = 0.9
_MOST_FAILURES = 3  # in a row; after each the step is half as long


@dataclass(frozen=True)
class Course:
    """What became of a descent."""

    loss_before: float
    loss_after: float
    """The lowest loss that was found."""
    steps: int
    """The steps that were taken, those that failed included."""
    ended_by_nan: bool = False
    """Whether a loss or its gradient was NaN or inf; what was found before stays."""

    @property
    def has_improved(self) -> bool:
        """Whether the loss is lower than at the start."""
        return self.loss_after < self.loss_before


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int, learning_rate: float) -> tuple[Tensor, Course]:
    """Minimise a function of many numbers.

    A step goes along the momentum of the gradients. Its length is set by the root mean square of all gradients so far,
    one number for all coordinates: where the images show nothing, and gradients are small, nothing moves. A step that
    does not lower the loss is taken back, and the next ones are half as long; after three such steps in a row it ends.

    Args:
        loss: a differentiable function.
        start: where to begin.
        steps: the most steps that are taken.
        learning_rate: the root mean square of the first step.

    Returns:
        Where the loss was lowest, without history, and the course. That is the start where it is lower nowhere.
    """
    best, direction = _Place(loss, start), _Direction()
    before, failures, taken = best.value, 0, 0
    ended_by_nan = not (isfinite(before) and best.has_finite_gradient())
    while taken < steps and failures < _MOST_FAILURES and not ended_by_nan:
        taken += 1
        tried = _Place(loss, best.numbers - learning_rate * direction.after(best.gradient))
        if isfinite(tried.value) and tried.value < best.value:
            best, failures = tried, 0
            ended_by_nan = taken < steps and not best.has_finite_gradient()
        else:
            ended_by_nan = not isfinite(tried.value)
            learning_rate, failures, direction = learning_rate / 2, failures + 1, _Direction()
        del tried  # a failed one keeps what its gradient would need
    return best.numbers, Course(before, best.value, taken, ended_by_nan)


class _Direction:
    """Adam's direction (Kingma & Ba 2015) with one second moment for all numbers."""

    def __init__(self) -> None:
        self._momentum: Tensor | None = None
        self._second_moment, self._steps = 0.0, 0

    def after(self, gradient: Tensor) -> Tensor:
        """Take a gradient into account; returns the direction of which to go the opposite way."""
        self._steps += 1
        share = 1 - _MOMENTUM
        self._momentum = share * gradient + (0 if self._momentum is None else _MOMENTUM * self._momentum)
        self._second_moment = _MOMENTUM * self._second_moment + share * gradient.square().mean().item()
        correction = 1 - _MOMENTUM**self._steps
        scale = (self._second_moment / correction) ** 0.5
        return self._momentum / correction / scale if scale > 0 else torch.zeros_like(gradient)


class _Place:
    """A place and the loss there; its gradient is computed when it is asked for, which a failed or last step is not."""

    def __init__(self, loss: Callable[[Tensor], Tensor], numbers: Tensor) -> None:
        self.numbers = numbers.detach()
        self._leaf = numbers.detach().requires_grad_()
        self._loss = loss(self._leaf)
        self.value = self._loss.item()

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient of the loss."""
        (gradient,) = torch.autograd.grad(self._loss, self._leaf)
        return gradient

    def has_finite_gradient(self) -> bool:
        """Whether no number of the gradient is NaN or inf."""
        return bool(self.gradient.isfinite().all())
