"""How alike two images are before and after a registration, in one number that says whether it worked."""

from __future__ import annotations

import torch
from jaxtyping import Float
from numpy import ndarray

from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.network import INTENSITY_MAX, Image
from lumirkit.registration.resolution import coarsen_image
from lumirkit.registration.volume import Volume
from lumirkit.registration.warp import sample

_GRID_VOX = 2  # fine enough to tell, and done in a fraction of a second
_WINDOW = 9


def likeness(fixed: Volume, moving: Volume, disp_vox: Float[ndarray, "x y z 3"]) -> tuple[float, float]:
    """Measure the squared local correlation of two images as they lie, and through a field, over the fixed brain.

    It is 1 for equal images and near 0 for images without relation, and needs no common contrast.

    Args:
        fixed: intensities 0…255, background 0.
        moving: the same, on the grid of `fixed`.
        disp_vox: displacement in voxels of that grid.
    """
    first, second = (_coarse(image) for image in (fixed, moving))
    every = slice(None, None, _GRID_VOX)
    disp = torch.from_numpy(disp_vox[every, every, every]).movedim(-1, 0)[None].contiguous() / _GRID_VOX
    of_itself = local_ncc(first, first, _WINDOW).clamp(min=1e-6)
    before, after = (local_ncc(first, image, _WINDOW) / of_itself for image in (second, sample(second, disp, "zeros")))
    return before.item(), after.item()


def _coarse(image: Volume) -> Image:
    return coarsen_image(torch.from_numpy(image.data)[None, None], _GRID_VOX, brain_means=True) / INTENSITY_MAX
