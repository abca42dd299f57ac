"""Two images carried to the frame that the networks know, and fields carried back from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lumirkit.registration.any_pair.field_of_view import cut_to_shared_view
from lumirkit.registration.any_pair.frame import BRIGHTEST, brain_box_mm, frame_of, normalised, resampled
from lumirkit.registration.any_pair.start import affine_start, overlapping_start
from lumirkit.registration.grid import Grid, between
from lumirkit.registration.volume import Volume, require_same_shape

_LEAST_BACKGROUND = 0.05  # share of the voxels; of a skull-stripped head in its box it is more than half
_LARGEST_BRAIN_LITRES = 3  # brains with their fluid have 1 to 2.3, heads 5 to 6


@dataclass(frozen=True)
class PairGrids:
    """The grid that two images are registered on, and the grids to carry the fields back to."""

    frame: Grid
    fixed: Grid
    """The grid that the fixed image came on."""
    moving: Grid
    """The grid that the moving image came on."""
    aligned_fixed: Grid
    """The grid of the fixed image, moved to where it lies in the frame's world."""
    aligned_moving: Grid
    """The grid of the moving image, moved so."""

    def on_fixed(self, disp_vox: Float[ndarray, "i j k 3"]) -> Float[ndarray, "x y z 3"]:
        """Carry a field of the frame back: moving voxels minus fixed voxels, the start and the field in one."""
        return self._carried(disp_vox, self.aligned_fixed, self.aligned_moving)

    def on_moving(self, inverse_vox: Float[ndarray, "i j k 3"]) -> Float[ndarray, "x y z 3"]:
        """Carry a field of the exchanged images back: fixed voxels minus moving voxels, at every moving voxel."""
        return self._carried(inverse_vox, self.aligned_moving, self.aligned_fixed)

    def _carried(self, disp_vox: Float[ndarray, "i j k 3"], start: Grid, end: Grid) -> Float[ndarray, "x y z 3"]:
        if self.frame.same_as(start) and self.frame.same_as(end):
            return disp_vox
        return between(disp_vox, self.frame, start, end)


@dataclass(frozen=True)
class FramedPair:
    """Two images on one grid, as a network takes them."""

    fixed: Volume
    moving: Volume
    grids: PairGrids
    by_voxels: bool = False
    """Whether the arrays were taken as they are, whatever their headers say."""


def framed(
    fixed: Volume, moving: Volume, say: Callable[[str], None], *, affine: bool = False, as_is: bool = False
) -> FramedPair:
    """Carry two images of any orientation, spacing and intensities to one frame.

    Images that are in the networks' frame already, both on one grid, stay as they are.

    Args:
        say: is told what was done to the images, and what may be wrong with them.
        affine: start from the affine that ANTs finds, rather than from the headers.
        as_is: take the arrays as they are: both are in the networks' frame, whatever their headers say.

    Raises:
        VolumeError: an image cannot be used.
    """
    if as_is:
        return _framed_as_is(fixed, moving)
    fixed_grid, moving_grid = Grid.from_image(fixed), Grid.from_image(moving)
    for image in (fixed, moving):
        _warn_of_skull(image, say)
    bright_fixed, bright_moving = normalised(fixed), normalised(moving)
    if not fixed_grid.same_as(moving_grid):
        for image in (bright_fixed, bright_moving):
            brain_box_mm(image)  # units that are wrong are refused before anything is said of what they overlap
    bright_fixed, bright_moving = cut_to_shared_view(bright_fixed, bright_moving, say)
    start = (affine_start if affine else overlapping_start)(bright_fixed, bright_moving, say)
    aligned_grid = replace(moving_grid, affine=np.linalg.inv(start) @ moving_grid.affine)
    aligned = replace(bright_moving, affine=aligned_grid.affine)  # the moving image as if it lay where the fixed one is
    frame = frame_of(bright_fixed, aligned)
    for image, bright, grid in ((fixed, bright_fixed, fixed_grid), (moving, bright_moving, moving_grid)):
        if bright is not image or not grid.same_as(frame):
            low, high = float(image.data.min()), float(image.data.max())
            say(f"{image.name}: {grid}, {low:.4g}…{high:.4g}; registered as {frame}, 0…{BRIGHTEST}")
    grids = PairGrids(frame, fixed_grid, moving_grid, fixed_grid, aligned_grid)
    return FramedPair(resampled(bright_fixed, frame), resampled(aligned, frame), grids)


def _framed_as_is(fixed: Volume, moving: Volume) -> FramedPair:
    require_same_shape(fixed, moving)
    grid = Grid.from_image(fixed)
    return FramedPair(fixed, moving, PairGrids(grid, grid, Grid.from_image(moving), grid, grid), by_voxels=True)


def _warn_of_skull(image: Volume, say: Callable[[str], None]) -> None:
    above = np.count_nonzero(image.data > 0)
    background = 1 - above / image.data.size
    litres = above * abs(np.linalg.det(image.affine[:3, :3])) / 1e6
    if background < _LEAST_BACKGROUND:
        found = f"only {100 * background:.1f} % of its voxels are background 0"
    elif litres > _LARGEST_BRAIN_LITRES:
        found = f"{litres:.1f} litres of it are not background 0, as of a whole head"
    else:
        return
    say(
        f"warning: {image.name}: {found}; expected a skull-stripped brain. Strip the skull first, or give a brain mask "
        "with --fixed-mask or --moving-mask."
    )
