"""Where the pairs of a training step come from, beside pairs of real images."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.one_image import OneImage
from lumirkit.train.settings import Settings
from lumirkit.train.synthetic import Synthetic

Share = Annotated[float, Field(ge=0, le=1)]


class _Source(Settings):
    share: Share
    """The probability that a step takes its pairs from here: 1 - alpha of Roy et al.'s weighted transfer."""
    share_at_end: Share | None = None
    """The share that this one changes to, evenly over the stage; None means that it stays."""
    losses: LossSettings

    @model_validator(mode="after")
    def _draws_pairs(self) -> Self:
        if self.losses.group_consistency_weight > 0:
            raise ValueError("losses.group_consistency_weight: expected 0; the samples of a source are pairs")
        return self

    def share_at(self, progress: float) -> float:
        """The share when so much of the stage (0…1) is done."""
        end = self.share if self.share_at_end is None else self.share_at_end
        return self.share + (end - self.share) * progress


class SyntheticSource(_Source):
    """Generated pairs instead of real ones, with losses of their own."""

    factors: Synthetic = Synthetic()
    """What the generated pairs vary in."""
    losses: LossSettings = LossSettings(ncc_weight=0.0, dice_weight=1.0)
    """Two images of different contrast have no NCC, so it is the label maps that guide."""


class OneImageSource(_Source):
    """Pairs of one real image and a changed copy of it, whose true field is known."""

    factors: OneImage = OneImage()
    """What is done to the copy."""
    losses: LossSettings = LossSettings()
    """The losses of these pairs."""


Source = SyntheticSource | OneImageSource
