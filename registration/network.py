"""What all networks have in common: two images in, registrations out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import nn
from torch.utils.checkpoint import checkpoint

from lumirkit.registration import mind
from lumirkit.registration.harmonise import Harmonisation
from lumirkit.registration.precision import Precision
from lumirkit.registration.resolution import coarsen_image
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.trust import try_kernels

INTENSITY_MAX = 255.0

Image = Float[torch.Tensor, "batch 1 x y z"]
BothHalves = Float[torch.Tensor, "2*batch channel x y z"]
Result = TypeVar("Result")


class CommonConfig(BaseModel):
    """What determines the weights and the output of any network: architecture, input transform and resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    input_transform: Literal["mind", "intensity", "harmonised"] = "mind"
    """`mind`: six MIND channels of each image; `intensity`: the image divided by 255; `harmonised`: the same with the
    contrast of the training images, whatever its own."""
    resolution_vox: PositiveInt = 1
    """Image voxels per voxel of the network's grid, along each axis (2: the network sees a 1 mm image at 2 mm)."""

    def coarsened(self, image: Image) -> Image:
        """A full-size image on the network's grid: for harmonised input, means of the brain's voxels alone."""
        return coarsen_image(image, self.resolution_vox, brain_means=self.input_transform == "harmonised")

    @property
    def input_channels(self) -> int:
        """Channels of one transformed image."""
        return mind.CHANNELS if self.input_transform == "mind" else 1


@dataclass(frozen=True)
class Registration:
    """Fields of both directions, in voxels of the grid they were computed on.

    `forward_vox` lives on the fixed grid and points into the moving image: warped(p) = moving(p + forward(p)).
    `inverse_vox` lives on the moving grid and points into the fixed image. They are mutually inverse, but for a U-Net
    that predicts displacements.
    """

    forward_vox: DisplacementVox
    inverse_vox: DisplacementVox


class Registering(nn.Module, ABC):
    """What registers: one network, or an ensemble of networks."""

    config: CommonConfig
    harmonisation: Harmonisation | None
    """Knows the contrast of the training images once fitted to them; None where the input does not need it."""

    @abstractmethod
    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register harmonised images in the architecture's own way; see `register`."""


class Network(Registering):
    """One network, of any architecture: what training makes and a weight file holds."""

    def __init__(self, config: CommonConfig) -> None:
        super().__init__()
        self.config = config
        self.harmonisation = Harmonisation() if config.input_transform == "harmonised" else None
        self.precision = Precision.FLOAT32
        self.recompute = False
        """Keep for the backward pass only what goes from level to level, and compute the rest again."""

    def fit_harmonisation(self, images: Iterable[Image]) -> None:
        """Fit the reference that other images are harmonised with, where that is asked for and there is none yet.

        Args:
            images: with the contrast to train on, on the network's grid, intensities 0…255.

        Raises:
            ValueError: an image shows nothing, or they share no place that is brain.
        """
        if self.harmonisation is not None and not self.harmonisation.is_fitted:
            self.harmonisation.fit(image / INTENSITY_MAX for image in images)

    def inputs(self, images: BothHalves) -> BothHalves:
        """What the first convolution sees of images with intensities 0…255, harmonised where that is asked for."""
        inputs = mind.mind(images) if self.config.input_transform == "mind" else images / INTENSITY_MAX
        dtype = torch.bfloat16 if self.precision is Precision.BFLOAT16 else inputs.dtype
        return inputs.to(dtype, memory_format=torch.channels_last_3d)


def register(network: Registering, fixed: Image, moving: Image, every_level: bool = False) -> list[Registration]:
    """Register on the network's own grid; images 0…255 of that grid, fields in its voxels.

    Args:
        network: one model or an ensemble.
        every_level: also return the registration reached after each coarser level, where the architecture has such.

    Returns:
        Registrations from coarse to fine; only the final one unless `every_level`.

    Raises:
        ValueError: images are to be harmonised, and the network has no reference.
    """
    try_kernels(fixed.device, fixed.dtype)
    if network.harmonisation is not None:
        fixed, moving = (INTENSITY_MAX * network.harmonisation(image) for image in (fixed, moving))
    return network.registrations(fixed, moving, every_level)


def recomputed(function: Callable[..., Result], *inputs: Any) -> Result:
    """The function's result, its intermediate values computed again when the backward pass needs them."""
    result: Result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
