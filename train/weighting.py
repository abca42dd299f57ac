"""How the terms of a loss are weighted: by the recipe, or by what training finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from train.settings import Settings


class Losses(Settings):
    """Weighted terms of a pair, both directions, and of the cycle of a triplet."""

    ncc_weight: NonNegativeFloat = 1.0
    ncc_window_vox: PositiveInt = 11
    """Edge of the local NCC window in voxels of the network's grid; odd."""
    ssim_weight: NonNegativeFloat = 0.0
    """Weight of 1 - SSIM."""
    diffusion_weight: NonNegativeFloat = 1.0
    ndv_weight: NonNegativeFloat = 0.0
    """Weight of the sum over voxels of the non-diffeomorphic volume (NDV); the reference fine-tunes with 1e-5."""
    intermediate_weight: NonNegativeFloat = 0.01
    """Weight of the same losses on the registration reached after each coarser level; 0 leaves them out."""
    dice_weight: NonNegativeFloat = 0.0
    """Weight of the soft Dice loss of label maps."""
    hausdorff_weight: NonNegativeFloat = 0.0
    """Weight of the Hausdorff loss of label maps, in its distance-transform form."""
    dice_labels: PositiveInt = 16
    """How many labels, drawn anew at every step, soft Dice and Hausdorff are taken over."""
    displacement_weight: NonNegativeFloat = 0.0
    """Weight of the squared distance, in voxels squared, from the true field; for pairs that have one."""

    group_consistency_weight: NonNegativeFloat = 0.0
    """Weight of the cycle loss (the reference's is 40); above 0 the stage draws triplets instead of pairs."""
    group_consistency_ramp_epochs: NonNegativeFloat = 0.0
    """The weight above grows from 0 over this many epochs."""

    @field_validator("ncc_window_vox")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"found {window}; expected an odd window, which has a centre voxel")
        return window

    @property
    def need_labels(self) -> bool:
        """Whether label maps guide."""
        return self.dice_weight > 0 or self.hausdorff_weight > 0

    @property
    def guiding(self) -> dict[str, float]:
        """The weights, those above 0, of the terms that say how well a pair is registered; each is 0 at best."""
        weights = {
            "ncc": self.ncc_weight,
            "ssim": self.ssim_weight,
            "dice": self.dice_weight,
            "hausdorff": self.hausdorff_weight,
            "displacement_error": self.displacement_weight,
        }
        return {name: weight for name, weight in weights.items() if weight > 0}


class Uncertainty(Settings):
    """Uncertainty weighting of the guiding terms; regularisers keep the weights of the recipe."""

    learning_rate: PositiveFloat = 1e-2
    """Of the logarithms of the weights; it follows the stage's schedule."""


class LearnedWeights(nn.Module):
    """Log-variances s of the guiding terms, which turn a weighted loss L into exp(-s) L + s.

    Of a loss that stays at L, exp(-s) becomes 1 / L: all terms come to count alike. At the start they count as the
    recipe weights them. Source: Kendall et al., CVPR 2018, in the form of de Frutos et al. (DDMR).
    """

    def __init__(self, terms: Iterable[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in sorted(terms)})

    def forward(self, term: str, loss: Tensor) -> Tensor:
        """What a term, weighted by the recipe, adds to the total."""
        log_variance = self._log_variance(term)
        return torch.exp(-log_variance) * loss + log_variance

    def weight(self, term: str) -> float:
        """By what a term is multiplied now, beside the recipe's weight."""
        return torch.exp(-self._log_variance(term)).item()

    def _log_variance(self, term: str) -> Tensor:
        return cast(Tensor, self.log_variances[term])
