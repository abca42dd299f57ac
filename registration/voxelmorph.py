"""VoxelMorph: a U-Net that sees both images at once and predicts a displacement or a velocity at every voxel.

Source: Balakrishnan et al., "VoxelMorph", IEEE TMI 2019; with velocities, Dalca et al., MICCAI 2018. The channels are
those of de Frutos et al. (PLOS ONE) and of Roy et al. 2025 where a recipe says so.

The U-Net sees the images in both orders, in one batch. Its two answers are the displacements of both directions;
velocities are half the difference of the two answers. Exchanging the images therefore exchanges the fields. The part of
an answer that does not depend on the order is the larger one at first; it cancels in velocities, where it would disturb
the training.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, Protocol, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from lumirkit.registration.convolution import Conv3d
from lumirkit.registration.exponential import exponential
from lumirkit.registration.network import BothHalves, CommonConfig, Image, Network, Registration, recomputed
from lumirkit.registration.tensors import Features5d, Volume5d

_SLOPE = 0.2  # slope of the leaky ReLU below zero
_INITIAL_FIELD = 1e-5  # standard deviation of the last layer's weights at the start, where fields are nearly zero


class VoxelMorphConfig(CommonConfig):
    """The configuration of VoxelMorph: the levels of the U-Net and the meaning of its output."""

    architecture: Literal["voxelmorph"] = "voxelmorph"
    """A U-Net."""
    encoder_channels: tuple[PositiveInt, ...] = Field((16, 32, 32, 32), min_length=1)
    """The channels on the way down, finest level first; after each level the resolution is halved."""
    decoder_channels: tuple[PositiveInt, ...] = Field((32, 32, 32, 32), min_length=1)
    """The channels on the way up, coarsest level first; after each level the resolution is doubled."""
    head_channels: tuple[PositiveInt, ...] = (32, 16, 16)
    """The channels at full resolution, between the U-Net and the field."""
    diffeomorphic: bool = False
    """Whether the fields are the flow of one stationary velocity, forwards and backwards, and not two displacements."""

    @model_validator(mode="after")
    def _up_as_often_as_down(self) -> Self:
        if len(self.encoder_channels) != len(self.decoder_channels):
            raise ValueError(
                f"encoder_channels has {len(self.encoder_channels)} levels and decoder_channels "
                f"{len(self.decoder_channels)}; expected as many up as down"
            )
        return self


class FieldNetwork(Protocol):
    """The part of a network that `register_at_once` needs; one model and an ensemble of models both have it."""

    config: VoxelMorphConfig
    recompute: bool

    def predict(self, images: BothHalves) -> BothHalves:
        """Predict displacements or velocities, forward and inverse, in voxels.

        Args:
            images: [moving, fixed] as one batch, intensities 0…255.

        Returns:
            Both directions as one batch; velocities of the two directions are each other's negative.
        """


class FieldConv3d(Conv3d):
    """The last layer; it computes in the dtype of its weights, which start close to zero."""

    def __init__(self, in_channels: int, bias: bool) -> None:
        super().__init__(in_channels, 3, kernel_size=3, padding=1, bias=bias)
        nn.init.normal_(self.weight, std=_INITIAL_FIELD)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, volume: Volume5d) -> BothHalves:
        """Predict the field at every voxel."""
        return super().forward(volume.to(self.weight.dtype)).contiguous()


def _conv_block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(Conv3d(in_channels, channels, kernel_size=3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True))


def _from_finer(level: nn.Module, finer: Volume5d) -> Features5d:
    """Apply a level to features of twice its resolution; odd sizes are rounded up."""
    volume: Volume5d = level(F.max_pool3d(finer, 2, ceil_mode=True))
    return volume


def _from_coarser(level: nn.Module, coarser: Features5d, skip: Features5d) -> Features5d:
    """Apply a level to features of half its resolution, beside the encoder's features at its own."""
    volume: Volume5d = level(_side_by_side(coarser, skip))
    return volume


def _run(recompute: bool, function: Callable[..., Features5d], *inputs: Any) -> Features5d:
    """Call a function; with `recompute` the backward pass computes its intermediate values again."""
    return recomputed(function, *inputs) if recompute else function(*inputs)


def _side_by_side(coarser: Features5d, skip: Features5d) -> Features5d:
    x, y, z = skip.shape[2:]
    doubled = F.interpolate(coarser, scale_factor=2, mode="nearest")
    return torch.cat([doubled[:, :, :x, :y, :z], skip], dim=1)


class VoxelMorph(Network):
    """The VoxelMorph network; `lumirkit.registration.network.register` runs it on a pair of images."""

    config: VoxelMorphConfig

    def __init__(self, config: VoxelMorphConfig) -> None:
        super().__init__(config)
        encoder, decoder, head = config.encoder_channels, config.decoder_channels, config.head_channels
        self.encoder = nn.ModuleList()
        for in_channels, channels in pairwise((2 * config.input_channels, *encoder)):
            self.encoder.append(_conv_block(in_channels, channels))
        # The channels that go into each level of the decoder, and into the head.
        incoming = [encoder[-1], *(below + skip for below, skip in zip(decoder, reversed(encoder), strict=True))]
        self.decoder = nn.ModuleList()
        for in_channels, channels in zip(incoming[:-1], decoder, strict=True):
            self.decoder.append(_conv_block(in_channels, channels))
        at_full_size = (incoming[-1], *head)
        field = FieldConv3d(at_full_size[-1], bias=not config.diffeomorphic)  # a bias cancels in the difference
        self.head = nn.Sequential()
        for in_channels, channels in pairwise(at_full_size):
            self.head.append(_conv_block(in_channels, channels))
        self.head.append(field)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register all at once; see `register_at_once`."""
        return register_at_once(self, fixed, moving)

    def predict(self, images: BothHalves) -> BothHalves:
        """Predict displacements or velocities of both directions; see `FieldNetwork`."""
        moving, fixed = self.inputs(images).chunk(2)
        answers = self._unet(torch.cat([torch.cat([fixed, moving], dim=1), torch.cat([moving, fixed], dim=1)]))
        if not self.config.diffeomorphic:
            return answers
        forward, inverse = answers.chunk(2)
        velocity = (forward - inverse) / 2
        return torch.cat([velocity, -velocity])

    def _unet(self, pairs: Volume5d) -> BothHalves:
        first, *downwards = self.encoder
        bottom, *upwards = self.decoder
        skips = [first(pairs)]
        for level in downwards:
            skips.append(_run(self.recompute, _from_finer, level, skips[-1]))
        volume = _run(self.recompute, _from_finer, bottom, skips[-1])
        for level in (*upwards, self.head):
            volume = _run(self.recompute, _from_coarser, level, volume, skips.pop())
        return volume


def register_at_once(network: FieldNetwork, fixed: Image, moving: Image) -> list[Registration]:
    """Register in one go, without levels; see `lumirkit.registration.network.register`.

    A diffeomorphic network's fields are exp(v) and exp(-v), inverses of each other up to their sampling. Otherwise they
    are the network's answers for the pair and for the exchanged pair, and nothing makes them inverses of each other.
    """
    predicted = network.predict(torch.cat([moving, fixed]))
    if network.config.diffeomorphic:
        predicted = _run(network.recompute, exponential, predicted)
    return [Registration(*predicted.chunk(2))]
