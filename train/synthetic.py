"""Image pairs made of nothing: random label maps, deformed twice, each image with a contrast of its own.

Source: Hoffmann et al., "SynthMorph", IEEE TMI 2022; the factors are those of Kolenbrander et al., MELBA 2025:013,
whose question is which of them matter. A pair is made on the network's grid and device while training goes on, from its
number alone; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from lumirkit.registration.exponential import exponential
from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.smoothing import gaussian_smooth
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.warp import compose, sample, sample_nearest
from lumirkit.train.draw import Draw
from lumirkit.train.settings import Ranges

Range = tuple[NonNegativeFloat, NonNegativeFloat]

_RADIUS_PER_SIGMA = 3
_TUBE_RADIUS, _TUBE_LENGTH = 0.4, 2.0  # the unit is half a diameter
_DARKEST = 0.02  # in the range 0…1; what shows brain is above 0, which is background


class Shapes(StrEnum):
    """What the label maps show."""

    NOISE = "noise"
    """Each voxel shows which of several smooth noise volumes is largest; this makes shapes like tissue."""
    PRIMITIVES = "primitives"
    """The maps show ellipsoids, boxes and tubes, later ones over earlier ones."""
    MIXED = "mixed"
    """Half of the maps show noise, half show primitives."""


class Synthetic(Ranges):
    """The factors of a generated pair: each is a range that a number is drawn from uniformly, and is off at [0, 0].

    Lengths are in voxels of the network's input, intensities in the range 0…1.
    """

    shapes: Shapes = Shapes.NOISE
    """What the label maps show."""
    labels: int = Field(default=26, ge=2)
    """The number of label ids of a map, 0 among them."""
    shape_scale_vox: tuple[PositiveFloat, PositiveFloat] = (8.0, 24.0)
    """The distance between the control points of the noise, and half the diameter of primitives."""
    shape_warp_vox: Range = (0.0, 4.0)
    """Standard deviation of the velocity that each noise volume is warped by on its own."""
    background_probability: float = Field(default=0.5, ge=0, le=1)
    """How often label 0 is background, that is 0 in both images, as around a brain."""

    deformation_vox: Range = (0.0, 3.0)
    """Standard deviation of the velocities that carry the map to the fixed and to the moving image."""
    deformation_scale_vox: tuple[PositiveFloat, PositiveFloat] = (16.0, 32.0)
    """Distance between the control points of these velocities; below five standard deviations fields begin to fold."""

    dynamic_contrast: bool = True
    """Whether each image draws its own mean and spread for every label; else both share one draw."""
    label_mean: Range = (0.1, 1.0)
    """Mean intensity of the voxels of one label."""
    label_spread: Range = (0.0, 0.1)
    """Standard deviation of the voxels of one label."""
    blur_sigma_vox: Range = (0.0, 1.0)
    """Standard deviation of a Gaussian blur."""
    bias_log_std: Range = (0.0, 0.3)
    """Standard deviation of the logarithm of a smooth multiplicative field."""
    bias_scale_vox: tuple[PositiveFloat, PositiveFloat] = (32.0, 64.0)
    """Distance between the control points of that field."""
    gamma_log_std: Range = (0.0, 0.25)
    """Standard deviation of the logarithm of the exponent of the intensities."""
    noise_std: Range = (0.0, 0.05)
    """Standard deviation of Gaussian noise."""


@dataclass(frozen=True)
class SyntheticPair:
    """Images 0…255 with label maps (ids as floats), and the true field: moving(p + disp_vox(p)) is fixed(p)."""

    fixed: Volume5d
    moving: Volume5d
    fixed_labels: Volume5d | None
    """It is None, as the other one is, for a pair of an image that has no label map."""
    moving_labels: Volume5d | None
    disp_vox: DisplacementVox


def generate_pair(
    factors: Synthetic, seed: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
) -> SyntheticPair:
    """Make the pair that belongs to some numbers, such as (seed, stage, sample); the same ones give the same pair.

    Args:
        shape: (X, Y, Z) of the network's input.
    """
    draw = Draw(seed, shape, torch.device(device))
    labels = _label_map(factors, draw)
    to_fixed, to_moving = (draw.velocity(factors.deformation_vox, factors.deformation_scale_vox) for _ in range(2))
    forward = exponential(torch.cat([to_fixed, to_moving]))
    fixed_labels, moving_labels = sample_nearest(labels.expand(2, -1, -1, -1, -1), forward).split(1)
    disp_vox = compose(exponential(-to_moving), forward[:1])
    with_background = draw.number((0, 1)) < factors.background_probability
    fixed_contrast = _contrast(factors, draw)
    moving_contrast = _contrast(factors, draw) if factors.dynamic_contrast else fixed_contrast
    fixed = _image(fixed_labels, fixed_contrast, factors, with_background, draw)
    moving = _image(moving_labels, moving_contrast, factors, with_background, draw)
    return SyntheticPair(fixed, moving, fixed_labels, moving_labels, disp_vox)


def _label_map(factors: Synthetic, draw: Draw) -> Volume5d:
    shapes = factors.shapes
    if shapes is Shapes.MIXED:
        shapes = Shapes.NOISE if draw.number((0, 1)) < 0.5 else Shapes.PRIMITIVES
    return _tissue(factors, draw) if shapes is Shapes.NOISE else _primitives(factors, draw)


def _tissue(factors: Synthetic, draw: Draw) -> Volume5d:
    """Give each voxel the number of the noise volume that is largest there; each is warped by a field of its own."""
    volumes = draw.smooth(factors.labels, 1, factors.shape_scale_vox)
    if factors.shape_warp_vox[1] > 0:
        volumes = sample(volumes, draw.velocity(factors.shape_warp_vox, factors.shape_scale_vox, factors.labels))
    return volumes.argmax(dim=0, keepdim=True).to(volumes.dtype)


def _primitives(factors: Synthetic, draw: Draw) -> Volume5d:
    """Draw ellipsoids, boxes and tubes of random place, size and direction on label 0, one a label."""
    axes = [torch.arange(size, dtype=torch.float32, device=draw.device) for size in draw.shape]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    extent = torch.tensor(draw.shape, dtype=torch.float32, device=draw.device)
    labels = torch.zeros(positions.shape[1], device=draw.device)
    for label in range(1, factors.labels):
        centre = extent * draw.numbers(3, (0.1, 0.9))
        half = draw.numbers(3, factors.shape_scale_vox)
        local = (draw.rotation() @ (positions - centre[:, None])) / half[:, None]
        kind = label % 3
        if kind == 0:
            inside = local.square().sum(dim=0) < 1
        elif kind == 1:
            inside = local.abs().amax(dim=0) < 1
        else:
            inside = (local[:2].square().sum(dim=0) < _TUBE_RADIUS**2) & (local[2].abs() < _TUBE_LENGTH)
        labels[inside] = label
    return labels.view(1, 1, *draw.shape)


@dataclass(frozen=True)
class _Contrast:
    """Mean and standard deviation of the intensities of every label."""

    means: Float[Tensor, " labels"]
    spreads: Float[Tensor, " labels"]


def _contrast(factors: Synthetic, draw: Draw) -> _Contrast:
    return _Contrast(
        draw.numbers(factors.labels, factors.label_mean), draw.numbers(factors.labels, factors.label_spread)
    )


def _image(labels: Volume5d, contrast: _Contrast, factors: Synthetic, with_background: bool, draw: Draw) -> Volume5d:
    """Make an image 0…255 of a label map: contrast, blur, bias field, gamma, noise; only background is 0."""
    ids = labels.long()
    image = contrast.means[ids] + contrast.spreads[ids] * draw.noise()
    sigma_vox = draw.number(factors.blur_sigma_vox)
    if sigma_vox > 0:
        image = gaussian_smooth(image, sigma_vox, max(1, round(_RADIUS_PER_SIGMA * sigma_vox)))
    bias = draw.number(factors.bias_log_std)
    if bias > 0:
        image = image * torch.exp(bias * draw.smooth(1, 1, factors.bias_scale_vox))
    image = _to_unit_range(image) ** float(np.exp(draw.number(factors.gamma_log_std) * draw.normal_number()))
    noise_std = draw.number(factors.noise_std)
    if noise_std > 0:
        image = _to_unit_range(image + noise_std * draw.noise())
    image = _DARKEST + (1 - _DARKEST) * image
    return INTENSITY_MAX * (torch.where(labels > 0, image, 0) if with_background else image)


def _to_unit_range(image: Volume5d) -> Volume5d:
    low, high = image.aminmax()
    return (image - low) / (high - low).clamp(min=1e-6)
