"""What one training step of a stage computes: gradients of the loss of a pair, or of three pairs around a cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lumirkit.registration.network import Network, Registration, register
from lumirkit.registration.resolution import coarsen_image
from lumirkit.registration.tensors import Volume5d
from lumirkit.train.group_consistency import CYCLE, cycle_gradients, pull
from lumirkit.train.guidance import Guidance
from lumirkit.train.objective import Objective, Terms, pairwise_loss
from lumirkit.train.views import View


def pair_step(
    network: Network, fixed: View, moving: View, objective: Objective, guidance: Guidance | None = None
) -> Terms:
    """Add the gradients of a batch of pairs to the parameters; returns the terms for the log."""
    total, terms, _ = pairwise_loss(network, fixed, moving, objective, guidance)
    total.backward()
    return terms


def triplet_step(network: Network, triplet: Sequence[View], objective: Objective, cycle_weight: float) -> Terms:
    """Add the gradients of a batch of triplets: the mean of the losses of the pairs of `CYCLE`, and the cycle's.

    Exact, in the memory of one pair: the fields of all three pairs are found without history, then each pair is
    registered again and takes its share of the cycle's gradient.
    """
    pairs = [(triplet[fixed], triplet[moving]) for fixed, moving in CYCLE]
    with torch.no_grad():
        fields = [register(network, fixed.seen, moving.seen)[-1] for fixed, moving in pairs]
    cycle = cycle_gradients(fields, _first_brain(network, triplet))
    terms = []
    for (fixed, moving), gradients in zip(pairs, cycle.fields_grad, strict=True):
        total, pair_terms, registration = pairwise_loss(network, fixed, moving, objective)
        (total / len(CYCLE) + cycle_weight * pull(registration, gradients)).backward()
        terms.append(pair_terms)
    return _with_cycle(terms, cycle.loss.item(), cycle_weight)


def shared_triplet_step(
    network: Network,
    triplet: Sequence[View],
    objective: Objective,
    cycle_weight: float,
    pair: int,
    from_all: Callable[[Tensor], Sequence[Tensor]],
) -> Terms:
    """Add the gradients of pair `pair` of a triplet which three processes share, in place of `triplet_step`.

    The mean of the three processes' gradients is that of the triplet, and so are the means of their terms.

    Args:
        from_all: gathers a tensor of equal shape from the three processes, in the order of `CYCLE`.
    """
    fixed, moving = (triplet[place] for place in CYCLE[pair])
    total, terms, registration = pairwise_loss(network, fixed, moving, objective)
    both = torch.cat([registration.forward_vox, registration.inverse_vox], dim=1).detach()
    fields = [Registration(*each.split(3, dim=1)) for each in from_all(both)]
    cycle = cycle_gradients(fields, _first_brain(network, triplet))
    (total + len(CYCLE) * cycle_weight * pull(registration, cycle.fields_grad[pair])).backward()
    return _with_cycle([terms], cycle.loss.item(), cycle_weight)


def _first_brain(network: Network, triplet: Sequence[View]) -> Volume5d:
    """The image where the cycle begins, on the grid of the fields."""
    return coarsen_image(triplet[0].clean, network.config.input_stride)


def _with_cycle(terms: Sequence[Terms], cycle: float, weight: float) -> Terms:
    mean = {name: sum(pair[name] for pair in terms) / len(terms) for name in terms[0]}
    return mean | {"loss": mean["loss"] + weight * cycle, "cycle": cycle}
