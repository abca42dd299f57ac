"""How alike two images are through the fields of both directions, computed only where there is brain."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.network import Registration
from lumirkit.registration.overlap import ImageAndMask, where_mostly_brain
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.tensors import ResizedDisplacementVox


class Comparison:
    """The local NCC of two images in both directions.

    The images are cut to the box of both brains and half a window around it. Beyond that box every window is empty and
    adds nothing, so the result is that of the whole volume, for about half of the work.
    """

    def __init__(self, fixed: ImageAndMask, moving: ImageAndMask, stride: int, window: int) -> None:
        """Cut the images.

        Args:
            fixed: what `with_mask` makes of the fixed image.
            moving: the same of the moving image, of the shape and dtype of `fixed`.
            stride: how many of their voxels one of the registration's grid spans along each axis.
            window: the edge of the window of local NCC, an odd number of voxels of the images.
        """
        self._stride, self._window = stride, window
        boxes = _boxes_of_brain(fixed, moving, stride, window // 2)
        self._grid_box = _inside(boxes)
        box = _inside([(low * stride, high * stride) for low, high in boxes])
        self._fixed, self._moving = fixed[box].contiguous(), moving[box].contiguous()
        self._share = self._fixed.numel() / fixed.numel()

    def local_ncc(self, registration: Registration) -> Float[Tensor, ""]:
        """The mean over the two directions of the local NCC of the fixed and the warped image, in [0, 1]."""
        there = self._one_way(registration.forward_vox, self._fixed, self._moving)
        back = self._one_way(registration.inverse_vox, self._moving, self._fixed)
        return self._share * (there + back) / 2

    def _one_way(
        self, disp_vox: ResizedDisplacementVox, fixed: ImageAndMask, moving: ImageAndMask
    ) -> Float[Tensor, ""]:
        cut_vox = disp_vox[self._grid_box].contiguous()
        refined_vox = refine_displacement(cut_vox, self._stride, fixed.shape[2:])
        return local_ncc(*where_mostly_brain(fixed, moving, refined_vox), self._window)


def _inside(boxes: Sequence[tuple[int, int]]) -> tuple[EllipsisType | slice, ...]:
    """The index of a box in the last three dimensions."""
    return (..., *(slice(low, high) for low, high in boxes))


def _boxes_of_brain(fixed: ImageAndMask, moving: ImageAndMask, stride: int, margin: int) -> list[tuple[int, int]]:
    """The first voxel of the coarser grid that the brains and a margin reach along each axis, and that after the last.

    One voxel more is taken on each side, since a field that is cut is not interpolated beyond its last voxels.
    """
    brain = ((fixed[:, 1] > 0) | (moving[:, 1] > 0)).any(dim=0)
    boxes = []
    for axis, size in enumerate(brain.shape):
        others = [other for other in range(3) if other != axis]
        shown = torch.nonzero(brain.sum(dim=others))[:, 0].tolist() or [0, size - 1]
        low = (shown[0] - margin) // stride - 1
        high = -(-(shown[-1] + 1 + margin) // stride) + 1
        boxes.append((max(low, 0), min(high, -(-size // stride))))
    return boxes
