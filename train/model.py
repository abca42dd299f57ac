"""The network in training, and the running mean of its parameters where the recipe asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lumirkit.base.errors import VolumeError
from lumirkit.registration.architecture import make_network
from lumirkit.registration.network import Network
from lumirkit.registration.trust import try_kernels
from lumirkit.train.data import TrainingImages
from lumirkit.train.recipe import Recipe
from lumirkit.train.transfer import start_from

_REFERENCE_IMAGES = 100  # more change the mean and the histogram of brains no further


class Model:
    """The network that a recipe trains, with its running mean."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Make the network from the recipe's seed or its initial weights.

        Raises:
            WeightsError: the initial weights cannot be used.
        """
        torch.manual_seed(recipe.seed)
        self.network = make_network(recipe.network).to(device)
        try_kernels(device, torch.float32)  # the first batch is already warped on that device
        self.remark = "started from random numbers"
        """A sentence on what the network was made from."""
        if recipe.initial_weights is not None:
            self.remark = start_from(recipe.initial_weights, recipe, self.network)
        self.network.precision, self.network.recompute = recipe.convolutions, recipe.recompute
        self._average: AveragedModel | None = None
        if recipe.ema_decay is not None:
            self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))

    def fit_harmonisation(self, images: TrainingImages) -> None:
        """Show the network what the training images look like, where its input depends on that.

        Initial weights that know other images keep to those.

        Raises:
            VolumeError: an image shows nothing, or they share no place that is brain.
        """
        device, config = next(self.network.parameters()).device, self.network.config
        chosen = (images[index][None].to(device).float() for index in range(min(len(images), _REFERENCE_IMAGES)))
        try:
            self.network.fit_harmonisation(config.coarsened(image) for image in chosen)
        except ValueError as error:
            raise VolumeError(f"{images.source}: {error}.") from error

    @property
    def result(self) -> Network:
        """The network to validate and to keep: the running mean where there is one."""
        return self.network if self._average is None else cast(Network, self._average.module)

    def after_step(self) -> None:
        """Let the running mean follow the network."""
        if self._average is not None:
            self._average.update_parameters(self.network)

    def average_state(self) -> dict[str, Tensor]:
        """The running mean and how many steps it has seen, for a checkpoint; empty where there is none."""
        return {} if self._average is None else dict(self._average.state_dict())

    def load_average(self, state: Mapping[str, Tensor]) -> None:
        """Continue the running mean of a checkpoint."""
        if self._average is not None:
            self._average.load_state_dict(state)
