"""The loss of registering a batch of pairs: how well they lie on each other, and how regular the fields are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lumirkit.registration.losses import diffusion_loss, masked_ncc_loss, ndv_loss
from lumirkit.registration.network import INTENSITY_MAX, Network, Registration, register
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.tensors import Volume5d
from lumirkit.train.guidance import Guidance
from lumirkit.train.hausdorff_loss import hausdorff_loss
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.losses import displacement_loss, masked_ssim_loss, soft_dice_loss
from lumirkit.train.views import View
from lumirkit.train.weighting import LearnedWeights

Terms = dict[str, float]

_SIMILARITIES = ("ncc", "ssim", "dice")  # logged as such, 1 at best; their losses are 1 - similarity


@dataclass(frozen=True)
class Objective:
    """A stage's loss settings, and the weights that training learns, where it does."""

    losses: LossSettings
    learned: LearnedWeights | None = None

    def weighted(self, term: str, loss: Tensor) -> Tensor:
        """Weigh a guiding term for the total."""
        loss = self.losses.guiding[term] * loss
        return loss if self.learned is None else self.learned(term, loss)


def pairwise_loss(
    network: Network, fixed: View, moving: View, objective: Objective, guidance: Guidance | None = None
) -> tuple[Tensor, Terms, Registration]:
    """Register a batch of pairs: the loss to minimise, its terms for the log, and the final registration.

    Half of each term is for either direction; the terms of the coarser levels' registrations are weighted by
    `intermediate_weight`. A term without a weight is neither computed nor in the log.
    """
    intermediate_weight = objective.losses.intermediate_weight
    registrations = register(network, fixed.seen, moving.seen, every_level=intermediate_weight > 0)
    images = fixed.clean / INTENSITY_MAX, moving.clean / INTENSITY_MAX
    stride = network.config.input_stride
    total, terms = _loss_of(registrations[-1], *images, stride, objective, guidance)
    for registration in registrations[:-1]:
        level_total, _ = _loss_of(registration, *images, stride, objective, guidance)
        total = total + intermediate_weight * level_total
    log = {"loss": total.item()} | {name: _shown(name, term) for name, term in terms.items()}
    if objective.learned is not None:
        log |= {f"weight_{name}": objective.learned.weight(name) for name in objective.losses.guiding}
    return total, log, registrations[-1]


def _loss_of(
    registration: Registration,
    fixed: Volume5d,
    moving: Volume5d,
    stride: int,
    objective: Objective,
    guidance: Guidance | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one registration, and its terms, each the mean over the two directions.

    What guides is compared on the grid of the images, whose voxels are finer than those of the fields by `stride`.
    """
    losses, fields = objective.losses, (registration.forward_vox, registration.inverse_vox)
    on_images = Registration(*(refine_displacement(field, stride, fixed.shape[2:]) for field in fields))
    terms = dict(_guiding(on_images, fixed, moving, losses, guidance))
    weighted = [objective.weighted(name, term) for name, term in terms.items()]
    terms["diffusion"] = _mean(diffusion_loss, *((field,) for field in fields))
    weighted.append(losses.diffusion_weight * terms["diffusion"])
    if losses.ndv_weight > 0:
        terms["ndv_vox"] = _mean(ndv_loss, *((field,) for field in fields))
        weighted.append(losses.ndv_weight * terms["ndv_vox"])
    return torch.stack(weighted).sum(), terms


def _guiding(
    registration: Registration, fixed: Volume5d, moving: Volume5d, losses: LossSettings, known: Guidance | None
) -> Iterator[tuple[str, Tensor]]:
    """The terms that say how well images, label maps and fields agree, each 0 at best."""
    forward, inverse = registration.forward_vox, registration.inverse_vox
    images = (fixed, moving, forward), (moving, fixed, inverse)
    if losses.ncc_weight > 0:
        yield "ncc", 1 + _mean(partial(masked_ncc_loss, window=losses.ncc_window_vox), *images)
    if losses.ssim_weight > 0:
        yield "ssim", _mean(masked_ssim_loss, *images)
    if known is None:
        return
    if losses.dice_weight > 0:
        fixed_masks, moving_masks = known.masks
        masks = (fixed_masks, moving_masks, forward), (moving_masks, fixed_masks, inverse)
        yield "dice", _mean(soft_dice_loss, *masks)
    if losses.hausdorff_weight > 0:
        fixed_outline, moving_outline = known.outlines
        outlines = (fixed_outline, moving_outline, forward), (moving_outline, fixed_outline, inverse)
        yield "hausdorff", _mean(hausdorff_loss, *outlines)
    if losses.displacement_weight > 0:
        assert known.disp_vox is not None
        yield "displacement_error", displacement_loss(forward, known.disp_vox)


def _mean(loss: Callable[..., Tensor], there: tuple[Any, ...], back: tuple[Any, ...]) -> Tensor:
    """The mean of a loss over the two directions of a pair."""
    return (loss(*there) + loss(*back)) / 2


def _shown(name: str, term: Tensor) -> float:
    """A term as it is logged."""
    return 1 - term.item() if name in _SIMILARITIES else term.item()
