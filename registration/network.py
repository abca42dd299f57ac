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
BothHalves = Float[torch.Tensor, "_twice_batch _channel _x _y _z"]
"""The volumes of the moving images, then those of the fixed ones, along the batch."""
Result = TypeVar("Result")


class CommonConfig(BaseModel):
    """The settings that determine the weights and the output of any network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    """`sitreg` or `voxelmorph`."""
    input_transform: Literal["mind", "intensity", "harmonised"] = "mind"
    """The first convolution sees six MIND channels of each image (`mind`), the image divided by 255 (`intensity`), or
    the image in the contrast of the training images, divided by 255 (`harmonised`)."""
    resolution_vox: PositiveInt = 1
    """How many image voxels a voxel of the network's grid spans along each axis (2: a 1 mm image is seen at 2 mm)."""

    @property
    def input_vox(self) -> int:
        """How many image voxels a voxel of what the network sees spans; a divisor of `resolution_vox`."""
        return self.resolution_vox

    @property
    def input_stride(self) -> int:
        """How many voxels of what the network sees one of the network's grid spans along each axis."""
        return self.resolution_vox // self.input_vox

    def coarsened(self, image: Image) -> Float[torch.Tensor, "batch 1 _x _y _z"]:
        """Take a full-size image to the grid on which the network sees it.

        For harmonised input only the brain's voxels are averaged.
        """
        return coarsen_image(image, self.input_vox, brain_means=self.input_transform == "harmonised")

    @property
    def input_channels(self) -> int:
        """The number of channels of one transformed image."""
        return mind.CHANNELS if self.input_transform == "mind" else 1


@dataclass(frozen=True)
class Registration:
    """The fields of both directions, in voxels of the grid they were computed on.

    `forward_vox` lives on the fixed grid and points into the moving image: warped(p) = moving(p + forward(p)).
    `inverse_vox` lives on the moving grid and points into the fixed image. The two are inverses of each other, except
    where a U-Net predicts displacements.
    """

    forward_vox: DisplacementVox
    inverse_vox: DisplacementVox


class Registering(nn.Module, ABC):
    """The interface of all that registers: one network, or an ensemble of networks."""

    config: CommonConfig
    harmonisation: Harmonisation | None
    """The map to the contrast of the training images, to which it must be fitted; None where the input needs none."""

    @abstractmethod
    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register harmonised images in the architecture's own way; `register` calls this.

        Args:
            fixed: intensities 0…255, as `CommonConfig.coarsened` makes them.
            moving: intensities of the shape, dtype and device of `fixed`.
            every_level: whether to also return the registration reached after each coarser level.
        """


class Network(Registering):
    """One network of any architecture, as training makes it and a weight file holds it."""

    def __init__(self, config: CommonConfig) -> None:
        super().__init__()
        self.config = config
        self.harmonisation = Harmonisation(config.input_stride) if config.input_transform == "harmonised" else None
        self.precision = Precision.FLOAT32
        """The number format of the convolutions."""
        self.recompute = False
        """Whether the backward pass computes again what does not go from level to level, instead of keeping it."""

    def fit_harmonisation(self, images: Iterable[Image]) -> None:
        """Fit the harmonisation to images, unless the network does without one or it is fitted already.

        Args:
            images: images of the contrast to train on, as `coarsened` makes them, intensities 0…255.

        Raises:
            ValueError: an image shows nothing, or they share no place that is brain.
        """
        if self.harmonisation is not None and not self.harmonisation.is_fitted:
            self.harmonisation.fit(image / INTENSITY_MAX for image in images)

    def inputs(self, images: BothHalves) -> BothHalves:
        """Transform images, intensities 0…255 and harmonised already, into what the first convolution sees."""
        inputs = mind.mind(images) if self.config.input_transform == "mind" else images / INTENSITY_MAX
        dtype = torch.bfloat16 if self.precision is Precision.BFLOAT16 else inputs.dtype
        return inputs.to(dtype, memory_format=torch.channels_last_3d)


def register(network: Registering, fixed: Image, moving: Image, every_level: bool = False) -> list[Registration]:
    """Register images on the network's own grid.

    Args:
        network: one model or an ensemble.
        fixed: intensities 0…255, as `CommonConfig.coarsened` makes them.
        moving: intensities of the shape, dtype and device of `fixed`.
        every_level: whether to also return the registration reached after each coarser level, where the architecture
            has levels.

    Returns:
        Registrations from coarse to fine, in voxels of the network's grid; only the final one unless `every_level`.

    Raises:
        ValueError: the network harmonises images and has not been fitted to any.
    """
    try_kernels(fixed.device, fixed.dtype)
    return network.registrations(*harmonised(network, fixed, moving), every_level)


def harmonised(network: Registering, fixed: Image, moving: Image) -> tuple[Image, Image]:
    """Give both images, intensities 0…255, the contrast that a network was trained on, if it has a map to that.

    Raises:
        ValueError: the network harmonises images and has not been fitted to any.
    """
    if network.harmonisation is None:
        return fixed, moving
    return INTENSITY_MAX * network.harmonisation(fixed), INTENSITY_MAX * network.harmonisation(moving)


def recomputed(function: Callable[..., Result], *inputs: Any) -> Result:
    """Call a function so that the backward pass computes its intermediate values again instead of keeping them."""
    result: Result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
