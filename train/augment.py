"""Changes of appearance of the network's input: the loss sees the images as they are.

Source: Honkamaa & Marttinen 2025: noise, blur, sign inversion and gamma, so that a network trained on T1w images meets
other contrasts. The ranges are ours; the paper does not state them. Ours too are the random contrasts: a network whose
input is MIND hardly needs them, one that sees intensities learns from them to register T2w images. Drawing is apart
from applying: an `Appearance` can be stored, applied again and looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from lumirkit.registration.harmonise import read_curve
from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.smoothing import gaussian_smooth
from lumirkit.train.settings import Ranges

_RADIUS_PER_SIGMA = 3  # where a Gaussian is cut off
_KNOTS = 6  # points of a random contrast's curve; the curves from T1w to T2w and PD intensities have no more bends
_DARKEST = 0.05  # in the range 0…1; what shows brain differs from the background

Range = tuple[NonNegativeFloat, NonNegativeFloat]


class Augmentation(Ranges):
    """Ranges that each image's appearance is drawn from, uniformly (gamma: uniformly in its logarithm)."""

    noise_std: Range = (0.0, 0.0)
    """Standard deviation of Gaussian noise, of the intensity range 0…1."""
    blur_sigma_vox: Range = (0.0, 0.0)
    """Standard deviation of a Gaussian blur, in voxels of the images as the network sees them."""
    gamma: Range = (1.0, 1.0)
    """Exponent of the intensities 0…1."""
    inversion_probability: NonNegativeFloat = 0.0
    """How often bright and dark are exchanged."""
    contrast_probability: NonNegativeFloat = 0.0
    """How often the brain's intensities follow a random curve, every second one falling, as from T1w to T2w or PD."""
    bent_contrast_probability: NonNegativeFloat = 0.0
    """How often they follow a random curve that rises and falls, as from T1w to FLAIR: tissues can look alike then."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.gamma[0] == 0:
            raise ValueError("gamma: found 0; expected positive exponents")
        for name in ("inversion_probability", "contrast_probability", "bent_contrast_probability"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name}: found {getattr(self, name)}; expected at most 1")
        if self.contrast_probability + self.bent_contrast_probability > 1:
            raise ValueError("contrast_probability + bent_contrast_probability: expected at most 1 together")
        return self


@dataclass(frozen=True)
class Appearance:
    """What is done to the appearance of one image; with the defaults, nothing is."""

    contrast: tuple[float, ...] = ()
    """New intensities 0…1 of the brain, for old ones at even steps from 0 to 1; none leaves the old ones."""
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
        contrast=_draw_contrast(ranges, generator),
    )


def _draw_contrast(ranges: Augmentation, generator: np.random.Generator) -> tuple[float, ...]:
    kind = generator.random()
    if kind >= ranges.contrast_probability + ranges.bent_contrast_probability:
        return ()
    knots = tuple(generator.uniform(_DARKEST, 1, _KNOTS))
    if kind >= ranges.contrast_probability:
        return knots
    return tuple(sorted(knots, reverse=bool(generator.random() < 0.5)))


def change_contrast(image: Float[Tensor, "1 1 x y z"], appearance: Appearance) -> Float[Tensor, "1 1 x y z"]:
    """Let the brain's intensities, those above 0 of 0…255, follow the appearance's curve; the background stays 0.

    For images of the full size: on a coarser grid the brain's outline is a mixture with the background.
    """
    if not appearance.contrast:
        return image
    knots = torch.tensor(appearance.contrast, dtype=image.dtype, device=image.device)
    position = image * ((len(knots) - 1) / INTENSITY_MAX)
    return INTENSITY_MAX * read_curve(knots, position) * (image > 0)


def apply_appearance(image: Float[Tensor, "1 1 x y z"], appearance: Appearance) -> Float[Tensor, "1 1 x y z"]:
    """Apply gamma, inversion, blur and noise, in this order, to intensities 0…255; noise may lead out of that range.

    Noise comes last: it is what a scanner adds to whatever contrast there is, and MIND, which does not see an inversion
    or a linear change of contrast, does see it. As in a skull-stripped image, there is noise in the brain only.
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
        intensity = intensity + appearance.noise_std * noise * (image > 0)
    return intensity * INTENSITY_MAX
