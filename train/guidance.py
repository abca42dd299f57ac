"""What guides a training step beside the images: masks of some labels, and true fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lumirkit.registration.resolution import coarsen_image, fill_blocks
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.train.hausdorff_loss import Outlined, outline


@dataclass(frozen=True)
class Guidance:
    """What is known of a batch of pairs beside their images: masks of some labels, the true forward field, or both."""

    fixed_masks: Volume5d | None = None
    moving_masks: Volume5d | None = None
    disp_vox: DisplacementVox | None = None

    @property
    def masks(self) -> tuple[Volume5d, Volume5d]:
        """The masks of the fixed and of the moving images, where label maps guide."""
        assert self.fixed_masks is not None and self.moving_masks is not None
        return self.fixed_masks, self.moving_masks

    @cached_property
    def outlines(self) -> tuple[Outlined, Outlined]:
        """The masks with the distances from their borders, found once for the registrations of all levels."""
        fixed, moving = self.masks
        return outline(fixed), outline(moving)


def label_masks(
    labels: Shaped[Tensor, "batch 1 x y z"], ids: Shaped[Tensor, " chosen"], stride: int
) -> Float[Tensor, "batch chosen _x _y _z"]:
    """The share, 0…1, that each label has of each voxel of the grid coarser by `stride`; one channel a label.

    Memory grows with the number of labels, so a step takes some of many.
    """
    return torch.cat([coarsen_image((labels == label).float(), stride) for label in ids], dim=1)


def guidance_of(
    fixed_labels: Shaped[Tensor, "batch 1 x y z"],
    moving_labels: Shaped[Tensor, "batch 1 x y z"],
    count: int,
    seeds: Sequence[Sequence[int]],
    stride: int = 1,
) -> Guidance:
    """Draw labels that each fixed map has, without 0, and make their masks on the grid coarser by `stride`.

    Args:
        count: how many labels guide a pair; where a map has fewer, some guide twice.
        seeds: the numbers that the choice for each pair depends on; so a batch is the mean of its pairs.
    """
    fixed, moving = [], []
    for own_fixed, own_moving, seed in zip(fixed_labels.split(1), moving_labels.split(1), seeds, strict=True):
        ids = own_fixed.unique()
        present = ids[ids > 0] if (ids > 0).any() else ids
        order = np.resize(np.random.default_rng(seed).permutation(len(present)), count)
        chosen = present[torch.as_tensor(order, device=present.device)]
        fixed.append(label_masks(own_fixed, chosen, stride))
        moving.append(label_masks(own_moving, chosen, stride))
    return Guidance(torch.cat(fixed), torch.cat(moving))


def coarsen_labels(labels: Shaped[Tensor, "batch 1 x y z"], stride: int) -> Shaped[Tensor, "batch 1 _x _y _z"]:
    """Take from every block of `stride` voxels along each axis the one next to its centre."""
    first = (stride - 1) // 2
    return fill_blocks(labels, stride)[:, :, first::stride, first::stride, first::stride]
