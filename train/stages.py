"""What one training step of a stage computes: the losses of a pair, or of three pairs around a cycle, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from registration.grid import DisplacementVox, Volume5d, coarsen_image
from registration.sitreg import INTENSITY_MAX, Registration, SITReg, register
from train.augment import Appearance, apply_appearance
from train.group_consistency import CYCLE, cycle_gradients, pull
from train.losses import diffusion_loss, displacement_loss, label_masks, masked_ncc_loss, ndv_loss, soft_dice_loss
from train.recipe import Losses
from train.synthetic import SyntheticPair

Terms = dict[str, float]


@dataclass(frozen=True)
class View:
    """A batch of images on the network's grid, intensities 0…255: as they are, and as the network sees them."""

    clean: Volume5d
    seen: Volume5d


@dataclass(frozen=True)
class Guidance:
    """What is known of a batch of pairs beside their images: masks of some labels, and the true forward field."""

    fixed_masks: Volume5d
    moving_masks: Volume5d
    disp_vox: DisplacementVox | None = None


def make_view(images: Volume5d, stride: int, appearances: Sequence[Appearance] | None = None) -> View:
    """Bring full-size images to the grid coarser by `stride`, and change how each looks to the network."""
    clean = coarsen_image(images, stride)
    if appearances is None:
        return View(clean, clean)
    seen = [apply_appearance(image[None], appearance) for image, appearance in zip(clean, appearances, strict=True)]
    return View(clean, torch.cat(seen))


def pair_step(network: SITReg, fixed: View, moving: View, losses: Losses, guidance: Guidance | None = None) -> Terms:
    """Add the gradients of a batch of pairs to the parameters; returns the terms for the log."""
    total, terms, _ = pairwise_loss(network, fixed, moving, losses, guidance)
    total.backward()
    return terms


def triplet_step(network: SITReg, triplet: Sequence[View], losses: Losses, cycle_weight: float) -> Terms:
    """Add the gradients of a batch of triplets: the mean of the losses of the pairs of `CYCLE`, and the cycle's.

    Exact, in the memory of one pair: the fields of all three pairs are found without history, then each pair is
    registered again and takes its share of the cycle's gradient.
    """
    pairs = [(triplet[fixed], triplet[moving]) for fixed, moving in CYCLE]
    with torch.no_grad():
        fields = [register(network, fixed.seen, moving.seen)[-1] for fixed, moving in pairs]
    cycle = cycle_gradients(fields, triplet[0].clean)
    terms = []
    for (fixed, moving), gradients in zip(pairs, cycle.of_fields, strict=True):
        total, pair_terms, registration = pairwise_loss(network, fixed, moving, losses)
        (total / len(CYCLE) + cycle_weight * pull(registration, gradients)).backward()
        terms.append(pair_terms)
    return _with_cycle(terms, cycle.loss.item(), cycle_weight)


def shared_triplet_step(
    network: SITReg,
    triplet: Sequence[View],
    losses: Losses,
    cycle_weight: float,
    pair: int,
    from_all: Callable[[Tensor], Sequence[Tensor]],
) -> Terms:
    """As `triplet_step`, where three processes share the triplet: this one adds the gradients of pair `pair`.

    The mean of the three processes' gradients is that of the triplet, and so are the means of their terms.

    Args:
        from_all: gathers a tensor of equal shape from the three processes, in the order of `CYCLE`.
    """
    fixed, moving = (triplet[place] for place in CYCLE[pair])
    total, terms, registration = pairwise_loss(network, fixed, moving, losses)
    both = torch.cat([registration.forward_vox, registration.inverse_vox], dim=1).detach()
    fields = [Registration(*each.split(3, dim=1)) for each in from_all(both)]
    cycle = cycle_gradients(fields, triplet[0].clean)
    (total + len(CYCLE) * cycle_weight * pull(registration, cycle.of_fields[pair])).backward()
    return _with_cycle([terms], cycle.loss.item(), cycle_weight)


def _with_cycle(terms: Sequence[Terms], cycle: float, weight: float) -> Terms:
    mean = {name: sum(pair[name] for pair in terms) / len(terms) for name in terms[0]}
    return mean | {"loss": mean["loss"] + weight * cycle, "cycle": cycle}


def pairwise_loss(
    network: SITReg, fixed: View, moving: View, losses: Losses, guidance: Guidance | None = None
) -> tuple[Tensor, Terms, Registration]:
    """Register a batch of pairs: the loss to minimise, its terms for the log, and the final registration.

    Half of each term is for either direction; the terms of the coarser levels' registrations are weighted by
    `intermediate_weight`. A term without a weight is neither computed nor in the log.
    """
    registrations = register(network, fixed.seen, moving.seen, every_level=losses.intermediate_weight > 0)
    images = fixed.clean / INTENSITY_MAX, moving.clean / INTENSITY_MAX
    total, terms = _both_directions(registrations[-1], *images, losses, guidance)
    for registration in registrations[:-1]:
        level_total, _ = _both_directions(registration, *images, losses, guidance)
        total = total + losses.intermediate_weight * level_total
    log = {"loss": total.item()} | {name: term.item() for name, term in terms.items()}
    return total, log, registrations[-1]


def _both_directions(
    registration: Registration, fixed: Volume5d, moving: Volume5d, losses: Losses, guidance: Guidance | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one registration, and its terms for the log, each the mean of the two directions."""
    forward, inverse = registration.forward_vox, registration.inverse_vox
    diffusion = (diffusion_loss(forward) + diffusion_loss(inverse)) / 2
    total, terms = losses.diffusion_weight * diffusion, {"diffusion": diffusion}
    if losses.ncc_weight > 0:
        window = losses.ncc_window_vox
        ncc = (masked_ncc_loss(fixed, moving, forward, window) + masked_ncc_loss(moving, fixed, inverse, window)) / 2
        total, terms = total + losses.ncc_weight * ncc, {"ncc": -ncc} | terms
    if losses.ndv_weight > 0:
        ndv = (ndv_loss(forward) + ndv_loss(inverse)) / 2
        total, terms["ndv_vox"] = total + losses.ndv_weight * ndv, ndv
    if guidance is not None:
        guided, more = _guided(forward, inverse, losses, guidance)
        total, terms = total + guided, terms | more
    return total, terms


def _guided(
    forward: DisplacementVox, inverse: DisplacementVox, losses: Losses, known: Guidance
) -> tuple[Tensor | float, dict[str, Tensor]]:
    """The loss of what is known beside the images, and its terms for the log."""
    total: Tensor | float = 0.0
    terms = {}
    if losses.dice_weight > 0:
        there = soft_dice_loss(known.fixed_masks, known.moving_masks, forward)
        back = soft_dice_loss(known.moving_masks, known.fixed_masks, inverse)
        dice = (there + back) / 2
        total, terms["dice"] = total + losses.dice_weight * dice, 1 - dice
    if losses.displacement_weight > 0:
        assert known.disp_vox is not None
        error = displacement_loss(forward, known.disp_vox)
        total, terms["displacement_error"] = total + losses.displacement_weight * error, error
    return total, terms


def views_of(images: Iterable[Volume5d], stride: int) -> list[View]:
    """Views of images that the network sees as they are."""
    return [make_view(image, stride) for image in images]


def as_views(
    pairs: Sequence[SyntheticPair], most_labels: int, seeds: Sequence[Sequence[int]]
) -> tuple[tuple[View, View], Guidance]:
    """Generated pairs as a batch: the fixed and the moving view, and what is known of them.

    Args:
        most_labels, seeds: see `guidance_of`.
    """
    fixed, moving, fixed_labels, moving_labels, disp_vox = (
        torch.cat([getattr(pair, name) for pair in pairs])
        for name in ("fixed", "moving", "fixed_labels", "moving_labels", "disp_vox")
    )
    guidance = guidance_of(fixed_labels, moving_labels, most_labels, seeds)
    return (View(fixed, fixed), View(moving, moving)), replace(guidance, disp_vox=disp_vox)


def guidance_of(
    fixed_labels: Shaped[Tensor, "batch 1 x y z"],
    moving_labels: Shaped[Tensor, "batch 1 x y z"],
    count: int,
    seeds: Sequence[Sequence[int]],
    stride: int = 1,
) -> Guidance:
    """Masks, on the grid coarser by `stride`, of labels that each fixed map has, 0 not among them.

    Args:
        count: how many guide a pair; of fewer, some guide twice.
        seeds: of each pair, the numbers that the choice depends on; so a batch is the mean of its pairs.
    """
    fixed, moving = [], []
    for own_fixed, own_moving, seed in zip(fixed_labels.split(1), moving_labels.split(1), seeds, strict=True):
        ids = own_fixed.unique()
        present = ids[ids > 0] if (ids > 0).any() else ids
        order = np.resize(np.random.default_rng(seed).permutation(len(present)), count)
        chosen = present[torch.as_tensor(order, device=present.device)]
        fixed.append(label_masks(own_fixed, chosen, stride))
        moving.append(label_masks(own_moving, chosen, stride))
    return Guidance(torch.cat(fixed), torch.cat(moving))
