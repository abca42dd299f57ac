"""The works of the kit's own networks: a forward pass, an ensemble, a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from lumirkit.bench.images import brain_like_pair
from lumirkit.bench.kinds import Kind
from lumirkit.bench.work import Work
from lumirkit.registration.architecture import make_network
from lumirkit.registration.ensemble import make_ensemble
from lumirkit.registration.network import Network
from lumirkit.registration.predictor import register_pair
from lumirkit.train.gradients import triplet_step
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.views import views_of

# The public code's fine-tuning without group consistency: the final registration alone, so that both do the same.
STEP_LOSSES = Objective(LossSettings(ncc_window_vox=11, diffusion_weight=1.0, ndv_weight=1e-5, intermediate_weight=0.0))
_LEARNING_RATE = 1e-4
_CYCLE_WEIGHT = 40.0


@dataclass(frozen=True)
class TrainingStep:
    """One training step in its parts: `forward` gives the loss, the optimizer holds the parameters."""

    forward: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer

    def parameters(self) -> list[Tensor]:
        """The parameters that are trained."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def _network(work: Work, seed: int) -> Network:
    """Make a network as training starts with; its fields are about as large as those of the public code."""
    torch.manual_seed(seed)
    network = make_network(work.network).to(work.device)
    network.precision, network.recompute = work.convolutions, work.recompute
    network.fit_harmonisation(work.network.coarsened(image) for image in _images(work))
    return network


def _images(work: Work) -> Iterator[Tensor]:
    """Make a pair on the device, one image at a time, as networks that do not harmonise never look at it."""
    for image in brain_like_pair(work.shape):
        yield torch.from_numpy(image.data).to(work.device)[None, None]


def registration_call(work: Work) -> Callable[[], Float32[ndarray, "x y z 3"]]:
    """Make the call that registers one pair as `lumirkit predict` does: images to the field (X, Y, Z, 3), in voxels."""
    fixed, moving = brain_like_pair(work.shape)
    members = work.members if work.kind is Kind.ENSEMBLE else 1
    network = make_ensemble([_network(work, seed) for seed in range(members)])
    return lambda: register_pair(network, fixed, moving)


def triplet_call(work: Work) -> Callable[[], float]:
    """Make a training step on one triplet with `STEP_LOSSES`, group consistency and Adam; the call returns the loss."""
    network = _network(work, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    fixed, moving = _images(work)
    triplet = views_of((fixed, moving, fixed), work.network)

    def call() -> float:
        optimizer.zero_grad(set_to_none=True)
        terms = triplet_step(network, triplet, STEP_LOSSES, _CYCLE_WEIGHT)
        optimizer.step()
        return terms["loss"]

    return call


def training_step(work: Work) -> TrainingStep:
    """Make a training step on one pair with `STEP_LOSSES` and Adam."""
    network = _network(work, seed=0)
    images = list(_images(work))
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)

    def forward() -> Tensor:
        fixed_view, moving_view = views_of(images, work.network)
        return pairwise_loss(network, fixed_view, moving_view, STEP_LOSSES)[0]

    return TrainingStep(forward, optimizer)
