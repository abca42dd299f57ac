"""Symmetric updates as control points, which give the same mappings on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.bspline import spline_displacement
from lumirkit.registration.halves import Halves
from lumirkit.registration.network import BothHalves
from lumirkit.registration.resolution import coarse_shape

Shape = Sequence[int]


class Update(Protocol):
    """One symmetric update of the mappings between the half-way space and the images."""

    @property
    def spacing_vox(self) -> int:
        """The image voxels between control points."""

    def applied(self, halves: Halves, grid_vox: int, shape: Shape) -> Halves:
        """Update mappings that live on a grid.

        Args:
            grid_vox: how many image voxels a voxel of the grid spans.
            shape: (X, Y, Z) of the grid.
        """


@dataclass(frozen=True)
class NetworkUpdate:
    """An update that a network predicted: it counts on both sides in full (`Halves.updated`)."""

    control_points: BothHalves
    """Of both halves, in units of their spacing."""
    spacing_vox: int
    """The image voxels between control points."""

    def applied(self, halves: Halves, grid_vox: int, shape: Shape) -> Halves:
        """Update mappings that live on a grid; see `Update`."""
        return halves.updated(spline_displacement(self.control_points, self.spacing_vox // grid_vox, shape))


@dataclass(frozen=True)
class OppositeUpdate:
    """An update whose halves have opposite control points: phi = id + u and psi = id - u (`Halves.parted`)."""

    control_points: Float[Tensor, "batch 3 i j k"]
    """Of the moving side, in units of their spacing."""
    spacing_vox: int
    """The image voxels between control points."""

    def applied(self, halves: Halves, grid_vox: int, shape: Shape) -> Halves:
        """Update mappings that live on a grid; see `Update`."""
        phi_vox = spline_displacement(self.control_points, self.spacing_vox // grid_vox, shape)
        return halves.parted(torch.cat([phi_vox, -phi_vox]))


def applied_in_turn(updates: Sequence[Update], grid_vox: int, shape: Shape) -> Halves:
    """Make the mappings of all updates on a grid, one after the other.

    Args:
        grid_vox: how many image voxels a voxel of the grid spans. Where that is more than lie between some control
            points, the mappings are made on a finer grid, and read from that.
        shape: (X, Y, Z) of the images.
    """
    made_vox = min([grid_vox, *(update.spacing_vox for update in updates)])
    halves = Halves()
    for update in updates:
        halves = update.applied(halves, made_vox, coarse_shape(shape, made_vox))
    return halves if made_vox == grid_vox else halves.coarsened(grid_vox // made_vox)
