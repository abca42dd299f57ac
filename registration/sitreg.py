"""SITReg: a symmetric, inverse-consistent, diffeomorphic multi-resolution registration network.

Source: Honkamaa & Marttinen, MELBA 2024:026; with MIND input, Honkamaa & Marttinen 2025.

Both images travel through everything as one batch, [moving, fixed]: whatever is computed for one half is computed for
the other by the same weights, and exchanging the halves (`_swap`) exchanges the roles of the images. Symmetry under
exchange of the inputs is therefore a property of the code's form, not of its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Literal, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from registration import mind
from registration.bspline import invertibility_bound, spline_displacement
from registration.grid import DisplacementVox, Volume5d, displacement_at_block_centres
from registration.inverse import invert
from registration.warp import compose, sample

INTENSITY_MAX = 255.0
_INITIAL_UPDATE = 1e-2  # standard deviation of the last layer's weights at the start: nearly the identity, not stuck

BothHalves = Float[Tensor, "2*batch channel x y z"]
Features = TypeVar("Features")


class SITRegConfig(BaseModel):
    """What determines the network's weights and its output: architecture, input transform and resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_transform: Literal["mind", "intensity"] = "mind"
    """`mind`: six MIND channels of each image; `intensity`: the image divided by 255."""
    resolution_vox: PositiveInt = 1
    """Image voxels per voxel of the network's grid, along each axis (2: the network sees a 1 mm image at 2 mm)."""
    feature_channels: tuple[PositiveInt, ...] = Field((12, 32, 64, 128, 128, 128), min_length=1)
    """Channels of the extractor, finest level first; one entry a level, each level halves the resolution."""
    update_channels: tuple[PositiveInt, ...] = Field((12, 64, 128, 256, 256, 256), min_length=1)
    """Channels of each level's update network, finest level first."""

    @model_validator(mode="after")
    def _one_entry_a_level(self) -> Self:
        if len(self.feature_channels) != len(self.update_channels):
            raise ValueError(
                f"feature_channels has {len(self.feature_channels)} levels and update_channels "
                f"{len(self.update_channels)}; expected one entry a level in both"
            )
        return self

    @property
    def levels(self) -> int:
        """Number of resolution levels."""
        return len(self.feature_channels)


@dataclass(frozen=True)
class Registration:
    """A pair of mutually inverse fields, in voxels of the grid they were computed on.

    `forward_vox` lives on the fixed grid and points into the moving image: warped(p) = moving(p + forward(p)).
    `inverse_vox` lives on the moving grid and points into the fixed image.
    """

    forward_vox: DisplacementVox
    inverse_vox: DisplacementVox


class ControlPointNetwork(Protocol[Features]):
    """What the level loop needs of a network; one model and an ensemble of models both offer it."""

    config: SITRegConfig

    def extract(self, images: BothHalves) -> Sequence[Features]:
        """Features of every level, finest first."""

    def control_points(self, level: int, features: Features, disp_level_vox: BothHalves | None) -> BothHalves:
        """Bounded control points of one level, in voxels of that level, from features warped half-way."""


def _conv_block(in_channels: int, channels: int) -> nn.Sequential:
    """Two 3x3x3 convolutions, each with group norm and ReLU."""
    layers: list[nn.Module] = []
    for channels_in in (in_channels, channels):
        layers += [
            nn.Conv3d(channels_in, channels, kernel_size=3, padding=1),
            nn.GroupNorm(gcd(4, channels), channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _pad_to_even(volume: Volume5d) -> Volume5d:
    x, y, z = (size % 2 for size in volume.shape[2:])
    return F.pad(volume, [0, z, 0, y, 0, x]) if x or y or z else volume


class Downsampling(nn.Module):
    """To the next coarser level: a strided convolution of the features plus a skip path of averages."""

    def __init__(self, channels: int, skip_channels: int, next_channels: int) -> None:
        super().__init__()
        self.features = nn.Conv3d(channels, next_channels, kernel_size=2, stride=2)
        self.skip = nn.Conv3d(skip_channels, next_channels, kernel_size=1)

    def forward(self, features: Volume5d, skip: Volume5d) -> Volume5d:
        """Merge both paths at half the resolution; odd sizes are filled up with zeros on the right."""
        merged: Tensor = self.features(_pad_to_even(features)) + self.skip(F.avg_pool3d(_pad_to_even(skip), 2))
        return merged


class Extractor(nn.Module):
    """Features of one image at every level; both images go through the same weights."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(in_channels, channels[0], kernel_size=1)
        self.blocks = nn.ModuleList(_conv_block(n, n) for n in channels)
        self.downsamplings = nn.ModuleList(Downsampling(n, n, following) for n, following in pairwise(channels))

    def forward(self, images: Volume5d) -> list[Volume5d]:
        """Features, finest level first."""
        skip = self.stem(images)
        features = [self.blocks[0](skip)]
        for downsample, block in zip(self.downsamplings, self.blocks[1:], strict=True):
            skip = downsample(features[-1], skip)
            features.append(block(skip))
        return features


class UpdateNetwork(nn.Module):
    """Control points of one level: bound * tanh(conv(block([a - b, a + b])))."""

    def __init__(self, feature_channels: int, channels: int, bound: float) -> None:
        super().__init__()
        self.block = _conv_block(2 * feature_channels, channels)
        self.head = nn.Conv3d(channels, 3, kernel_size=1)
        nn.init.normal_(self.head.weight, std=_INITIAL_UPDATE)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.bound = bound

    def forward(self, a: Volume5d, b: Volume5d) -> Float[Tensor, "batch 3 x y z"]:
        """Control points, in voxels of this level, that move `a` towards `b`."""
        return self.bound * torch.tanh(self.head(self.block(torch.cat([a - b, a + b], dim=1))))


class SITReg(nn.Module):
    """One network; `registration.sitreg.register` runs it on a pair of images."""

    def __init__(self, config: SITRegConfig) -> None:
        super().__init__()
        self.config = config
        in_channels = mind.CHANNELS if config.input_transform == "mind" else 1
        self.extractor = Extractor(in_channels, config.feature_channels)
        self.updates = nn.ModuleList(
            UpdateNetwork(features, channels, invertibility_bound(2**level))
            for level, (features, channels) in enumerate(
                zip(config.feature_channels, config.update_channels, strict=True)
            )
        )
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def extract(self, images: BothHalves) -> list[BothHalves]:
        """Features of every level, finest first, of images (2 * batch, 1, X, Y, Z) with intensities 0…255."""
        inputs = mind.mind(images) if self.config.input_transform == "mind" else images / INTENSITY_MAX
        features: list[BothHalves] = self.extractor(inputs.contiguous(memory_format=torch.channels_last_3d))
        return features

    def control_points(self, level: int, features: BothHalves, disp_level_vox: BothHalves | None) -> BothHalves:
        """Control points of both halves, in voxels of the level; None stands for the identity."""
        warped = features if disp_level_vox is None else sample(features, disp_level_vox)
        control_points: BothHalves = self.updates[level](warped, _swap(warped))
        return control_points


def register(
    network: ControlPointNetwork[Features],
    fixed: Float[Tensor, "batch 1 x y z"],
    moving: Float[Tensor, "batch 1 x y z"],
    every_level: bool = False,
) -> list[Registration]:
    """Register on the network's own grid; images 0…255 of that grid, fields in its voxels.

    Args:
        network: one model or an ensemble.
        every_level: also return the registration reached after each coarser level.

    Returns:
        Registrations from coarse to fine; only the final one unless `every_level`.
    """
    shape = fixed.shape[2:]
    features = network.extract(torch.cat([moving, fixed]))
    halves = _Halves()
    results = []
    for level in reversed(range(network.config.levels)):
        stride = 2**level
        disp_level_vox = halves.at_block_centres(stride)
        control_points = network.control_points(level, features[level], disp_level_vox).to(fixed.dtype)
        halves = halves.updated(spline_displacement(control_points, stride, shape))
        if every_level or level == 0:
            results.append(halves.registration())
    return results


@dataclass(frozen=True)
class _Halves:
    """The mappings from the half-way space to both images and back, on the full grid, both halves in one batch.

    `to_images` holds LF and RF (half-way to moving, half-way to fixed), `to_halfway` their inverses LI and RI;
    None is the identity.
    """

    to_images: BothHalves | None = None
    to_halfway: BothHalves | None = None

    def at_block_centres(self, stride: int) -> BothHalves | None:
        return None if self.to_images is None else displacement_at_block_centres(self.to_images, stride)

    def updated(self, phi_psi: BothHalves) -> _Halves:
        """Compose with delta = phi o psi^-1 on the moving side and with delta^-1 = psi o phi^-1 on the fixed side."""
        delta = compose(phi_psi, _swap(invert(phi_psi)))
        delta_inverse = _swap(delta)
        if self.to_images is None or self.to_halfway is None:
            return _Halves(delta, delta_inverse)
        return _Halves(compose(self.to_images, delta), compose(delta_inverse, self.to_halfway))

    def registration(self) -> Registration:
        """Forward = LF o RI, inverse = RF o LI."""
        assert self.to_images is not None and self.to_halfway is not None
        forward, inverse = compose(self.to_images, _swap(self.to_halfway)).chunk(2)
        return Registration(forward, inverse)


def _swap(both: BothHalves) -> BothHalves:
    """Exchange the halves of the batch."""
    first, second = both.chunk(2)
    return torch.cat([second, first])
