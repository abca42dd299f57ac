"""What one training step of a stage computes."""

from __future__ import annotations

from torch import Tensor

from registration.grid import Volume5d, coarsen_image
from registration.sitreg import INTENSITY_MAX, Registration, SITReg, register
from train.losses import diffusion_loss, masked_ncc_loss
from train.recipe import Losses


def pairwise_loss(
    network: SITReg, fixed: Volume5d, moving: Volume5d, losses: Losses
) -> tuple[Tensor, dict[str, float]]:
    """Register a batch of full-size pairs and return the loss to minimise, with its terms for the log.

    The loss is computed on the network's grid: half of each term for either direction, the terms of the coarser
    levels' registrations weighted by `intermediate_weight`.
    """
    fixed = coarsen_image(fixed, network.config.resolution_vox)
    moving = coarsen_image(moving, network.config.resolution_vox)
    registrations = register(network, fixed, moving, every_level=losses.intermediate_weight > 0)
    fixed, moving = fixed / INTENSITY_MAX, moving / INTENSITY_MAX
    ncc, diffusion = _both_directions(registrations[-1], fixed, moving, losses.ncc_window_vox)
    total = ncc + losses.diffusion_weight * diffusion
    for registration in registrations[:-1]:
        level_ncc, level_diffusion = _both_directions(registration, fixed, moving, losses.ncc_window_vox)
        total = total + losses.intermediate_weight * (level_ncc + losses.diffusion_weight * level_diffusion)
    return total, {"loss": total.item(), "ncc": -ncc.item(), "diffusion": diffusion.item()}


def _both_directions(
    registration: Registration, fixed: Volume5d, moving: Volume5d, window: int
) -> tuple[Tensor, Tensor]:
    """NCC loss and diffusion loss, each the mean of the two directions."""
    forward, inverse = registration.forward_vox, registration.inverse_vox
    ncc = (masked_ncc_loss(fixed, moving, forward, window) + masked_ncc_loss(moving, fixed, inverse, window)) / 2
    return ncc, (diffusion_loss(forward) + diffusion_loss(inverse)) / 2
