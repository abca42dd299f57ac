"""SITReg: a symmetric, inverse-consistent, diffeomorphic multi-resolution registration network.

Source: Honkamaa & Marttinen, MELBA 2024:026; with MIND input, Honkamaa & Marttinen 2025.

Both images go through the network as one batch, [moving, fixed]: the same weights compute the same things for both
halves, and exchanging the halves exchanges the roles of the images. The structure of the code alone therefore
makes the registration symmetric under exchange of the inputs, whatever the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Any, Literal, Protocol, Self, cast

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.convolution import Conv3d, convolve
from lumirkit.registration.group_norm import group_norm_relu
from lumirkit.registration.halves import Halves
from lumirkit.registration.network import BothHalves, CommonConfig, Image, Network, Registration, recomputed
from lumirkit.registration.resolution import coarse_shape, fill_blocks
from lumirkit.registration.tensors import Features5d, Volume5d
from lumirkit.registration.warp import sample

_INITIAL_UPDATE = 1e-2  # standard deviation of the last layer's weights at the start: nearly the identity, not stuck

MemberFeatures = list[BothHalves]  # the features of one level, one volume for each model


class SITRegConfig(CommonConfig):
    """The configuration of SITReg: the channels of the extractor and of the update networks, level by level."""

    architecture: Literal["sitreg"] = "sitreg"
    """The symmetric network of several levels."""
    feature_channels: tuple[PositiveInt, ...] = Field((12, 32, 64, 128, 128, 128), min_length=1)
    """The extractor's channels, one entry a level, finest level first; each level halves the resolution."""
    update_channels: tuple[PositiveInt, ...] = Field((12, 64, 128, 256, 256, 256), min_length=1)
    """The channels of each level's update network, finest level first."""
    seen_vox: PositiveInt | None = None
    """How many image voxels a voxel of what the network sees spans; None: as one of its grid (`resolution_vox`). With 1
    a network of 2 mm sees all voxels of 1 mm, eight in each of its own, and its loss compares images of 1 mm."""

    @model_validator(mode="after")
    def _one_entry_a_level(self) -> Self:
        if len(self.feature_channels) != len(self.update_channels):
            raise ValueError(
                f"feature_channels has {len(self.feature_channels)} levels and update_channels "
                f"{len(self.update_channels)}; expected one entry a level in both"
            )
        return self

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.seen_vox is not None and self.resolution_vox % self.seen_vox:
            raise ValueError(
                f"seen_vox: found {self.seen_vox}; expected a divisor of resolution_vox={self.resolution_vox}"
            )
        return self

    @property
    def input_vox(self) -> int:
        """How many image voxels a voxel of what the network sees spans."""
        return self.seen_vox or self.resolution_vox

    @property
    def levels(self) -> int:
        """The number of resolution levels."""
        return len(self.feature_channels)


class ControlPointNetwork(Protocol):
    """The part of a network that the level loop needs; one model and an ensemble of models both have it."""

    config: SITRegConfig
    recompute: bool

    def extract(self, images: BothHalves) -> list[MemberFeatures]:
        """Extract the features of every level, finest first, from images (2 * batch, 1, X, Y, Z) of 0…255."""

    def control_points(self, level: int, features: MemberFeatures, disp_level_vox: BothHalves | None) -> BothHalves:
        """Predict bounded control points of one level from features warped half-way.

        Args:
            level: 0 is the finest.
            features: the features of the level before warping; the list is emptied, so that each volume is freed once
                it is warped.
            disp_level_vox: the field to warp with, in voxels of the level; None stands for the identity.

        Returns:
            The control points in voxels of the level.
        """


class GroupNormRelu(nn.GroupNorm):
    """Group normalisation and ReLU; statistics and parameters are float, whatever the dtype of the volume."""

    def __init__(self, channels: int) -> None:
        super().__init__(gcd(4, channels), channels)

    def forward(self, volume: Volume5d) -> Volume5d:
        """Normalise and clip at 0. Without gradients the result overwrites `volume`."""
        return group_norm_relu(volume, self.num_groups, self.weight, self.bias, self.eps)


def _conv_block(in_channels: int, channels: int) -> nn.Sequential:
    """Make two 3x3x3 convolutions, each with group norm and ReLU."""
    return nn.Sequential(
        Conv3d(in_channels, channels, kernel_size=3, padding=1),
        GroupNormRelu(channels),
        Conv3d(channels, channels, kernel_size=3, padding=1),
        GroupNormRelu(channels),
    )


class Downsampling(nn.Module):
    """The step to the next coarser level: a strided convolution of the features plus a skip path of averages."""

    def __init__(self, channels: int, skip_channels: int, next_channels: int) -> None:
        super().__init__()
        self.features = Conv3d(channels, next_channels, kernel_size=2, stride=2)
        self.skip = Conv3d(skip_channels, next_channels, kernel_size=1)

    def forward(self, features: Features5d, averages: Volume5d) -> Volume5d:
        """Merge both paths at half the resolution; odd sizes are filled up with zeros on the right."""
        merged: Tensor = self.features(fill_blocks(features, 2)) + averages
        return merged

    def averages(self, skip: Volume5d) -> Features5d:
        """Compute the skip path: means of 2x2x2 voxels and a 1x1x1 convolution are together one strided convolution."""
        weight = self.skip.weight.expand(-1, -1, 2, 2, 2) / 8
        return convolve(fill_blocks(skip, 2), weight, self.skip.bias, stride=2)


class Extractor(nn.Module):
    """The features of one image at every level; both images go through the same weights."""

    def __init__(self, in_channels: int, channels: Sequence[int], stride: int) -> None:
        """Make the layers; `stride` is how many voxels of the inputs one of the finest level spans along each axis."""
        super().__init__()
        self._stride = stride
        self.stem = Conv3d(in_channels, channels[0], kernel_size=stride, stride=stride)
        self.blocks = nn.ModuleList(_conv_block(n, n) for n in channels)
        self.downsamplings = nn.ModuleList(Downsampling(n, n, following) for n, following in pairwise(channels))

    def forward(self, inputs: Volume5d, recompute: bool) -> list[Features5d]:
        """Extract the features of every level, finest first; `recompute` as in `Network`."""
        volume = self.stem(fill_blocks(inputs, self._stride))
        features = []
        for block, downsampling in zip(self.blocks, [*self.downsamplings, None], strict=True):
            averages = downsampling.averages(volume) if downsampling else None
            if recompute:
                volume = recomputed(block, volume)
            else:
                for layer in cast(nn.Sequential, block):  # not block(volume), which would hold its input to the end
                    volume = layer(volume)
            features.append(volume)
            if downsampling:
                volume = downsampling(volume, averages)
        return features

    def finest(self, inputs: Volume5d) -> Features5d:
        """Extract the finest features alone, the first that `forward` gives."""
        volume: Tensor = self.stem(fill_blocks(inputs, self._stride))
        for layer in cast(nn.Sequential, self.blocks[0]):
            volume = layer(volume)
        return volume


class _SumAndDifference(torch.autograd.Function):
    """The sum and the difference, [a + b, a - b], as one batch, without the copies that `torch.cat` would make."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        shape = (2 * len(a), *a.shape[1:])
        both = torch.empty(shape, dtype=a.dtype, device=a.device, memory_format=torch.channels_last_3d)
        torch.add(a, b, out=both[: len(a)])
        torch.sub(a, b, out=both[len(a) :])
        return both

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        grad_sum, grad_difference = grad_output.chunk(2)
        return grad_sum + grad_difference, grad_sum - grad_difference


class UpdateNetwork(nn.Module):
    """The network that predicts one level's control points: g(a, b) = bound * tanh(conv(block([a - b, a + b])))."""

    def __init__(self, feature_channels: int, channels: int, bound: float) -> None:
        super().__init__()
        self.block = _conv_block(2 * feature_channels, channels)
        self.head = Conv3d(channels, 3, kernel_size=1)
        nn.init.normal_(self.head.weight, std=_INITIAL_UPDATE)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.bound = bound

    def forward(self, both: list[BothHalves]) -> BothHalves:
        """Predict g(a, b) and g(b, a) from the features [a, b], in voxels of this level.

        Each moves one image towards the other. The list is emptied, so that the features are freed once they are used.
        """
        features = self.block[1:](self._first_of_both_orders(both))
        control_points: Tensor = self.head(features.to(self.head.weight.dtype))
        return self.bound * torch.tanh(control_points)

    def _first_of_both_orders(self, both: list[BothHalves]) -> BothHalves:
        """Convolve [a - b, a + b] and [b - a, a + b]; the convolution is linear, so two halves of it give both."""
        first = cast(Conv3d, self.block[0])
        a, b = both.pop().chunk(2)
        weight_difference, weight_sum = first.weight.chunk(2, dim=1)
        difference = convolve(a - b, weight_difference, None, padding=first.padding)
        a_plus_b = a + b
        del a, b
        total = convolve(a_plus_b, weight_sum, first.bias, padding=first.padding)
        del a_plus_b
        return _SumAndDifference.apply(total, difference)  # type: ignore[no-untyped-call]


class SITReg(Network):
    """The SITReg network; `lumirkit.registration.network.register` runs it on a pair of images."""

    config: SITRegConfig

    def __init__(self, config: SITRegConfig) -> None:
        super().__init__(config)
        self.extractor = Extractor(config.input_channels, config.feature_channels, config.input_stride)
        self.updates = nn.ModuleList(
            UpdateNetwork(features, channels, invertibility_bound(2**level))
            for level, (features, channels) in enumerate(
                zip(config.feature_channels, config.update_channels, strict=True)
            )
        )
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register level by level; see `register_by_levels`."""
        return register_by_levels(self, fixed, moving, every_level)

    def extract(self, images: BothHalves) -> list[MemberFeatures]:
        """Extract the features of every level, finest first; see `ControlPointNetwork`."""
        return [[volume] for volume in self.extractor(self.inputs(images), self.recompute)]

    def finest_features(self, images: BothHalves) -> BothHalves:
        """Extract the finest features alone, the first that `extract` gives."""
        return self.extractor.finest(self.inputs(images))

    def control_points(self, level: int, features: MemberFeatures, disp_level_vox: BothHalves | None) -> BothHalves:
        """Predict the control points of both halves, in voxels of the level; see `ControlPointNetwork`."""
        warped = [features.pop() if disp_level_vox is None else sample(features.pop(), disp_level_vox)]
        control_points: BothHalves = self.updates[level](warped)
        return control_points.contiguous()


def register_by_levels(
    network: ControlPointNetwork, fixed: Image, moving: Image, every_level: bool
) -> list[Registration]:
    """Register from the coarsest level to the finest; see `lumirkit.registration.network.register`."""
    results = []
    for reached in by_levels(network, fixed, moving):
        if every_level or reached.level == 0:
            results.append(reached.halves.registration())
    return results


@dataclass(frozen=True)
class Reached:
    """What a network says of one level, and the mappings after it."""

    level: int
    """0 is the finest."""
    control_points: BothHalves
    """Of both halves, in voxels of the level."""
    halves: Halves


def by_levels(network: ControlPointNetwork, fixed: Image, moving: Image) -> Iterator[Reached]:
    """Yield what is reached after each level, from the coarsest to the finest.

    Args:
        fixed: harmonised intensities 0…255, as `CommonConfig.coarsened` makes them.
        moving: intensities of the shape, dtype and device of `fixed`.
    """
    shape = coarse_shape(fixed.shape[2:], network.config.input_stride)
    features = network.extract(torch.cat([moving, fixed]))
    halves = Halves()
    for level in reversed(range(network.config.levels)):
        if network.recompute:
            points, halves = recomputed(_next_halves, network, level, tuple(features.pop()), halves, shape)
        else:
            points, halves = _next_halves(network, level, features.pop(), halves, shape)
        yield Reached(level, points, halves)


def _next_halves(
    network: ControlPointNetwork,
    level: int,
    features: MemberFeatures | tuple[BothHalves, ...],
    halves: Halves,
    shape: Sequence[int],
) -> tuple[BothHalves, Halves]:
    """Predict one level's control points, and update the mappings; a list of features is emptied, a tuple is kept."""
    volumes = features if isinstance(features, list) else list(features)
    control_points = network.control_points(level, volumes, halves.at_block_centres(2**level))
    return control_points, halves.updated(spline_displacement(control_points, 2**level, shape))
