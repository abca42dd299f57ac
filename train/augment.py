"""Changes of appearance of the network's input: the loss sees the images as they are.

Source: Honkamaa & Marttinen 2025: noise, blur, sign inversion and gamma, so that a network trained on T1w images meets
other contrasts. The ranges are ours; the paper does not state them. Drawing is apart from applying: an `Appearance`
can be stored, applied again and looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from registration.network import INTENSITY_MAX
from registration.smoothing import gaussian_smooth
from train.settings import Settings

_RADIUS_PER_SIGMA = 3  # where a Gaussian is cut off

Range = tuple[NonNegativeFloat, NonNegativeFloat]


class Augmentation(Settings):
    """Ranges that each image's appearance is drawn from, uniformly (gamma: uniformly in its logarithm)."""

    noise_std: Range = (0.0, 0.0)
    """Standard deviation of Gaussian noise, of the intensity range 0…1."""
    blur_sigma_vox: Range = (0.0, 0.0)
    """Standard deviation of a Gaussian blur, in voxels of the network's grid."""
    gamma: Range = (1.0, 1.0)
    """Exponent of the intensities 0…1."""
    inversion_probability: NonNegativeFloat = 0.0
    """How often bright and dark are exchanged."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("noise_std", "blur_sigma_vox", "gamma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: found [{low}, {high}]; expected the smaller number first")
        if self.gamma[0] == 0:
            raise ValueError("gamma: found 0; expected positive exponents")
        if self.inversion_probability > 1:
            raise ValueError(f"inversion_probability: found {self.inversion_probability}; expected at most 1")
        return self


@dataclass(frozen=True)
class Appearance:
    """What is done to one image; with the defaults, nothing."""

    gamma: float = 1.0
    inverted: bool = False
    blur_sigma_vox: float = 0.0
    noise_std: float = 0.0
    noise_seed: int = 0


def draw_appearance(ranges: Augmentation, generator: np.random.Generator) -> Appearance:
    """Draw what is done to one image."""
    return Appearance(
        gamma=float(np.exp(generator.uniform(*np.log(ranges.gamma)))),
        inverted=bool(generator.random() < ranges.inversion_probability),
        blur_sigma_vox=float(generator.uniform(*ranges.blur_sigma_vox)),
        noise_std=float(generator.uniform(*ranges.noise_std)),
        noise_seed=int(generator.integers(2**31)),
    )


def apply_appearance(image: Float[Tensor, "1 1 x y z"], appearance: Appearance) -> Float[Tensor, "1 1 x y z"]:
    """Gamma, inversion, blur, noise, in this order, on intensities 0…255; the result may leave that range by its noise.

    Noise comes last: it is what a scanner adds to whatever contrast there is, and MIND, which does not see an inversion
    or a linear change of contrast, does see it.
    """
    intensity = image / INTENSITY_MAX
    if appearance.gamma != 1:
        intensity = intensity.clamp(min=0) ** appearance.gamma
    if appearance.inverted:
        intensity = 1 - intensity
    if appearance.blur_sigma_vox > 0:
        radius = max(1, round(_RADIUS_PER_SIGMA * appearance.blur_sigma_vox))
        intensity = gaussian_smooth(intensity, appearance.blur_sigma_vox, radius)
    if appearance.noise_std > 0:
        generator = torch.Generator(image.device).manual_seed(appearance.noise_seed)
        noise = torch.randn(image.shape, dtype=image.dtype, device=image.device, generator=generator)
        intensity = intensity + appearance.noise_std * noise
    return intensity * INTENSITY_MAX
