"""Two images of which one shows only a part of the brain, such as a slab of slices: cut to what both show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from nibabel.affines import apply_affine

from lumirkit.base.errors import VolumeError
from lumirkit.registration.any_pair.start import overlap
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume

_ENOUGH_OVERLAP = 0.5  # Dice of what both show; less is no part of the same brain
_WHOLE = 0.8  # share of a brain within the other image's grid; headers of whole heads leave more
_PART = 0.6  # volume of what a slab shows of a brain, over that of another brain; between whole ones it is more


def cut_to_shared_view(fixed: Volume, moving: Volume, say: Callable[[str], None]) -> tuple[Volume, Volume]:
    """Set both images to 0 where the other has no voxels, if that is a good part of a brain.

    A network would take the end of a slab for the end of the brain, and pull the whole brain into it. Images that show
    the same are returned as they are; so are those whose brains do not overlap in what they share, with a warning where
    one is much smaller.

    Args:
        say: is told what was cut, or what is amiss.
    """
    if Grid.from_image(fixed).same_as(Grid.from_image(moving)):
        return fixed, moving
    cut_fixed, cut_moving = _within_grid_of(fixed, moving), _within_grid_of(moving, fixed)
    shares = [
        np.count_nonzero(cut.data > 0) / np.count_nonzero(image.data > 0)
        for cut, image in ((cut_fixed, fixed), (cut_moving, moving))
    ]
    if min(shares) >= _WHOLE:
        return fixed, moving
    both_show_some = min(shares) > 0 and _show_one_part(cut_fixed, cut_moving)
    for image, other, share in ((fixed, moving, shares[0]), (moving, fixed, shares[1])):
        if share < _WHOLE and both_show_some:
            say(
                f"warning: {image.name}: {other.name} shows {100 * share:.0f} % of its brain; only that is registered, "
                "and beyond it the field is the continuation. --fixed-mask and --moving-mask choose another part."
            )
        elif share < _WHOLE and _volume_mm3(other) < _PART * _volume_mm3(image):
            say(
                f"warning: {image.name}: {other.name} shows {100 * share:.0f} % of its brain, by their headers. If one "
                "of them shows only a part of the brain, mask the same part of the other with --fixed-mask or "
                "--moving-mask."
            )
    return (cut_fixed, cut_moving) if both_show_some else (fixed, moving)


def _show_one_part(cut_fixed: Volume, cut_moving: Volume) -> bool:
    """Whether what is left of two brains is the same part of one; a rest that is smaller than any brain is none."""
    try:
        return overlap(cut_fixed, cut_moving) >= _ENOUGH_OVERLAP
    except VolumeError:
        return False


def _volume_mm3(image: Volume) -> float:
    return float(np.count_nonzero(image.data > 0) * abs(np.linalg.det(image.affine[:3, :3])))


def _within_grid_of(image: Volume, other: Volume) -> Volume:
    """The image with 0 where the grid of another one has no voxel."""
    brain = np.argwhere(image.data > 0)
    grid = Grid.from_image(other)
    nearest = np.rint(apply_affine(grid.voxel_from_mm @ image.affine, brain))
    outside = brain[((nearest < 0) | (nearest >= grid.shape)).any(axis=1)]
    data = image.data.copy()
    data[tuple(outside.T)] = 0
    return replace(image, data=data)
