"""Weights of a loss's terms that training learns, in place of those of the recipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from lumirkit.train.settings import Settings


class Uncertainty(Settings):
    """Uncertainty weighting of the guiding terms; regularisers keep the weights of the recipe."""

    learning_rate: PositiveFloat = 1e-2
    """The learning rate of the logarithms of the weights; it follows the stage's schedule."""


class LearnedWeights(nn.Module):
    """Learned log-variances s of the guiding terms: they turn a weighted loss L into exp(-s) L + s.

    Where a loss stays at L, exp(-s) becomes 1 / L: all terms come to count alike. At the start they count as the
    recipe weights them. Source: Kendall et al., CVPR 2018, in the form of de Frutos et al. (DDMR).
    """

    def __init__(self, terms: Iterable[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in sorted(terms)})

    def forward(self, term: str, loss: Tensor) -> Tensor:
        """Weigh a term, already weighted by the recipe, for the total."""
        log_variance = self._log_variance(term)
        return torch.exp(-log_variance) * loss + log_variance

    def weight(self, term: str) -> float:
        """The factor that a term has now, beside the recipe's weight."""
        return torch.exp(-self._log_variance(term)).item()

    def _log_variance(self, term: str) -> Tensor:
        return cast(Tensor, self.log_variances[term])
