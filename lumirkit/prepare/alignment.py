"""Where the template, or another scan of the subject, lies in a scan: by ANTs if it is installed, else by the kit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import installed_version
from lumirkit.prepare.affine_search import find_affine
from lumirkit.registration.any_pair.start import affine_start, overlap
from lumirkit.registration.volume import Volume

_LEAST_STRETCH, _MOST_STRETCH = 0.65, 1.6  # of a brain along any direction, to fit that of another adult
_LEAST_OVERLAP = 0.8  # Dice of brain and template after the affine; good ones have 0.93 and more


@dataclass(frozen=True, eq=False)
class Alignment:
    """A transform, and who found it."""

    matrix: Float64[ndarray, "4 4"]
    """Takes positions in the fixed image to positions in the moving one, both in RAS mm."""
    how: str


def aligned(fixed: Volume, moving: Volume, rigid: bool = False) -> Alignment:
    """Find where the fixed image lies in the moving one.

    Args:
        rigid: by turns and shifts alone.

    Raises:
        VolumeError: no possible transform was found.
    """
    kind = "rigid" if rigid else "affine"
    antspyx = installed_version("antspyx")
    if antspyx is None:
        return Alignment(find_affine(fixed, moving, rigid), f"{kind} by mutual information at 4 mm")
    matrix = affine_start(fixed, moving, lambda _: None, rigid)
    return Alignment(matrix, f"{kind} of antspyx {antspyx}")


def aligned_brain(template: Volume, brain: Volume) -> Alignment:
    """Find the affine from a template to a brain, which must then be a whole one.

    Raises:
        VolumeError: the brain would be stretched more than brains differ, or does not fill the template.
    """
    found = aligned(template, brain)
    stretches = np.linalg.svd(found.matrix[:3, :3], compute_uv=False)
    if stretches.min() < _LEAST_STRETCH or stretches.max() > _MOST_STRETCH:
        raise VolumeError(
            f"{brain.name}: fits the template only when it is scaled by {1 / stretches.max():.2f} to "
            f"{1 / stretches.min():.2f}; expected {1 / _MOST_STRETCH:.2f} to {1 / _LEAST_STRETCH:.2f}. Look at the "
            "image and its mask; it may be half a head."
        )
    share = overlap(template, in_place(brain, found))
    if share < _LEAST_OVERLAP:
        raise VolumeError(
            f"{brain.name}: overlaps with the template by a Dice of {share:.2f}; expected {_LEAST_OVERLAP} or more. "
            "Look at the image and its mask; it may be half a head, or no brain."
        )
    return found


def in_place(image: Volume, alignment: Alignment) -> Volume:
    """The image as if it lay where the fixed image does; no voxel changes."""
    return Volume(image.name, image.data, np.linalg.inv(alignment.matrix) @ image.affine)
