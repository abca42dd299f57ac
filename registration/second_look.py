"""A second look at what an intensity means, once two images of different contrast lie on each other.

`Harmonisation` asks the mean brain. Where a brain differs from it, as by the large ventricles of the elderly, the curve
is blurred: dark fluid gets the brightness of the tissue that other people have in its place. After a registration the
other image of the pair shows, voxel by voxel, what an intensity means. So the image that is less like the mean brain
gets the mean of both contrasts, and the pair is registered again. Pairs of one contrast keep their first registration.
Everything is decided alike for both orders of the images, so a registration keeps its symmetry.

Like the harmonisation itself, this is new here. Alternating between registering two images and estimating the map of
their intensities is as old as Roche et al., "Unifying maximum likelihood approaches in medical image registration",
International Journal of Imaging Systems and Technology 2000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lumirkit.registration.contrast import is_one_contrast
from lumirkit.registration.harmonise import Harmonisation
from lumirkit.registration.network import INTENSITY_MAX, Image, Registering, Registration, harmonised
from lumirkit.registration.resolution import coarsen_image, refine_displacement
from lumirkit.registration.tensors import ResizedDisplacementVox
from lumirkit.registration.warp import sample

LOOKS = 2
"""How often a pair of two contrasts is registered again."""

Found = TypeVar("Found")


def registered_in_one_contrast(
    network: Registering,
    fixed: Image,
    moving: Image,
    register: Callable[[Image, Image], Found],
    registration_of: Callable[[Found], Registration],
) -> Found:
    """Register a pair, and again after each look at the contrast that it needs.

    Args:
        network: its harmonisation says which contrast is looked for; without one the pair is registered once.
        fixed: (1, 1, X, Y, Z), intensities 0…255, as `CommonConfig.coarsened` makes them.
        moving: an image of the shape, dtype and device of `fixed`.
        register: finds something of two harmonised images, intensities 0…255.
        registration_of: reads the registration, on the network's grid, from what was found.

    Raises:
        ValueError: the network harmonises images and has not been fitted to any.
    """
    harmonisation, first = network.harmonisation, harmonised(network, fixed, moving)
    found = register(*first)
    if harmonisation is None:
        return found
    stride = network.config.input_stride
    coarse = [coarsen_image(image, stride, brain_means=True) for image in (fixed, moving)]
    for _ in range(LOOKS):
        registration = registration_of(found)
        if is_one_contrast(registration, *coarse):
            break
        if harmonisation.likeness(first[0]) < harmonisation.likeness(first[1]):
            seen = _seen_from(harmonisation, fixed, first[1], registration.forward_vox, stride)
            found = register((first[0] + seen) / 2, first[1])
        else:
            seen = _seen_from(harmonisation, moving, first[0], registration.inverse_vox, stride)
            found = register(first[0], (first[1] + seen) / 2)
    return found


def _seen_from(
    harmonisation: Harmonisation, image: Image, other: Image, disp_vox: ResizedDisplacementVox, stride: int
) -> Image:
    """Give an image the contrast of the other one, which is harmonised.

    Args:
        disp_vox: the field on `image` that points into the other one, on a grid `stride` times coarser than theirs.
    """
    warped = sample(other, refine_displacement(disp_vox, stride, image.shape[2:]), "zeros")
    return INTENSITY_MAX * harmonisation.carried_from(image / INTENSITY_MAX, warped / INTENSITY_MAX)
