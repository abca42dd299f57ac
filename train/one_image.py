"""Image pairs made of one image: the other is its copy, moved, bent and of other brightness.

Source: the augmentation of Perez de Frutos et al., "Learning deep abdominal CT registration through adaptive loss
weighting and synthetic data generation", PLOS ONE 2023, whose ranges are the defaults here. A pair is made on the
network's grid and device while training goes on, from an image and the numbers of its sample alone; nothing is stored.

There the image is the fixed one and its copy the moving one. Here the image is the moving one: the copy is read from it
through the field that was drawn, so the true field is that very field at every voxel. The other way round it would be
an inverse, known only as well as it is solved for and unknown wherever the copy has lost a part of the image. As both
directions of a pair are trained, nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy.spatial.transform import Rotation

from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.thin_plate import thin_plate_displacement
from lumirkit.registration.warp import sample, sample_nearest
from lumirkit.train.augment import Appearance, apply_appearance
from lumirkit.train.settings import Ranges
from lumirkit.train.synthetic import SyntheticPair

CONTROL_POINTS = 8  # along each axis of the thin-plate spline


class OneImage(Ranges):
    """What is done to the copy, each drawn uniformly (gamma: uniformly in its logarithm).

    Lengths are in voxels of the network's input; the defaults are the paper's at 1 mm, so halve them for 2 mm.
    """

    gamma: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    """Exponent of the intensities 0…1."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Largest share by which all intensities grow or shrink; they end at 255."""
    rotation_deg: NonNegativeFloat = 10.0
    """Largest angle about each axis, through the middle of the grid."""
    translation_vox: NonNegativeFloat = 30.0
    """Largest length of the translation, whose direction is any."""
    bending_vox: NonNegativeFloat = 6.0
    """Largest displacement, in any direction, of the control points of a thin-plate spline, 8 along each axis.

    Up to a quarter of the points' shortest distance no field was seen to fold. The paper's is a third of it: then a
    voxel or two of every third field fold if the points, where the spline has kinks, lie on voxels, as on a grid of 64.
    """


def pair_from_image(image: Volume5d, labels: Volume5d | None, factors: OneImage, seed: Sequence[int]) -> SyntheticPair:
    """Make the pair that belongs to an image and some numbers, such as (seed, stage, sample).

    What lies beyond the grid is background, 0.

    Args:
        image: (1, 1, X, Y, Z), intensities 0…255 with 0 outside the brain; it becomes the moving image as it is.
        labels: its label map, ids as floats; without it the pair has no label maps.

    Returns:
        The pair on the image's device; the same numbers give the same pair, but for rounding also on another device.
    """
    generator = np.random.default_rng(seed)
    disp_vox = _draw_field(image, factors, generator)
    gamma = float(np.exp(generator.uniform(*np.log(factors.gamma))))
    brightness = 1 + generator.uniform(-factors.brightness, factors.brightness)
    copy = apply_appearance(sample(image, disp_vox, "zeros"), Appearance(gamma=gamma))
    fixed = (brightness * copy).clamp(max=INTENSITY_MAX)
    fixed_labels = None if labels is None else sample_nearest(labels, disp_vox, "zeros")
    return SyntheticPair(fixed, image, fixed_labels, labels, disp_vox)


def _draw_field(image: Volume5d, factors: OneImage, generator: np.random.Generator) -> DisplacementVox:
    """Draw a field that bends, then rotates about the middle of the grid, then translates; exact at every voxel."""
    shape = image.shape[2:]
    rotation = Rotation.from_euler("xyz", generator.uniform(-1, 1, 3) * factors.rotation_deg, degrees=True)
    translation = _vectors(1, factors.translation_vox, generator)
    controls = _vectors(CONTROL_POINTS**3, factors.bending_vox, generator)
    matrix, shift, control_vox = (
        torch.as_tensor(each).to(image) for each in (rotation.as_matrix(), translation, controls)
    )
    control_vox = control_vox.view(1, 3, CONTROL_POINTS, CONTROL_POINTS, CONTROL_POINTS)
    bent = thin_plate_displacement(control_vox, shape).flatten(2)
    axes = [torch.arange(size, device=image.device, dtype=image.dtype) - (size - 1) / 2 for size in shape]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    turn = matrix - torch.eye(3).to(image)  # what rotation adds, so that no rotation adds nothing to the last bit
    return (bent + turn @ (position + bent) + shift).view(1, 3, *shape)


def _vectors(count: int, longest: float, generator: np.random.Generator) -> Float64[ndarray, "3 count"]:
    """Draw vectors whose directions, and whose lengths up to `longest`, are evenly distributed."""
    direction = generator.normal(size=(3, count))
    return generator.uniform(0, longest, count) * direction / np.linalg.norm(direction, axis=0)
