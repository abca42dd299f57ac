"""What one training step of a stage computes."""

from __future__ import annotations

from torch import Tensor

from registration.grid import Volume5d, coarsen_image
from registration.sitreg import INTENSITY_MAX, Registration, SITReg, register
from train.losses import diffusion_loss, masked_ncc_loss, ndv_loss
from train.recipe import Losses


def pairwise_loss(
    network: SITReg, fixed: Volume5d, moving: Volume5d, losses: Losses
) -> tuple[Tensor, dict[str, float]]:
    """Register a batch of full-size pairs and return the loss to minimise, with its terms for the log.

    The loss is computed on the network's grid: half of each term for either direction, the terms of the coarser
    levels' registrations weighted by `intermediate_weight`. Where the NDV has a weight, it is one of the terms.
    """
    fixed = coarsen_image(fixed, network.config.resolution_vox)
    moving = coarsen_image(moving, network.config.resolution_vox)
    registrations = register(network, fixed, moving, every_level=losses.intermediate_weight > 0)
    fixed, moving = fixed / INTENSITY_MAX, moving / INTENSITY_MAX
    total, terms = _both_directions(registrations[-1], fixed, moving, losses)
    for registration in registrations[:-1]:
        level_total, _ = _both_directions(registration, fixed, moving, losses)
        total = total + losses.intermediate_weight * level_total
    return total, {"loss": total.item()} | {name: term.item() for name, term in terms.items()}


def _both_directions(
    registration: Registration, fixed: Volume5d, moving: Volume5d, losses: Losses
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one registration, and its terms, each the mean of the two directions."""
    forward, inverse = registration.forward_vox, registration.inverse_vox
    window = losses.ncc_window_vox
    ncc = (masked_ncc_loss(fixed, moving, forward, window) + masked_ncc_loss(moving, fixed, inverse, window)) / 2
    diffusion = (diffusion_loss(forward) + diffusion_loss(inverse)) / 2
    total = ncc + losses.diffusion_weight * diffusion
    terms = {"ncc": -ncc, "diffusion": diffusion}
    if losses.ndv_weight > 0:
        ndv = (ndv_loss(forward) + ndv_loss(inverse)) / 2
        total = total + losses.ndv_weight * ndv
        terms["ndv_vox"] = ndv
    return total, terms
