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


class Mappings:
    """All updates so far, and what they make on one grid, from which coarser ones read it."""

    def __init__(
        self, shape: Shape, grid_vox: int, updates: Sequence[Update] = (), halves: Halves | None = None
    ) -> None:
        """Begin with the identity, or with updates that were applied already.

        Args:
            shape: (X, Y, Z) of the images.
            grid_vox: how many image voxels a voxel of the grid spans.
            halves: what `updates` make on that grid; None where they are still to be applied.
        """
        self._shape, self._grid_vox, self._updates = shape, grid_vox, list(updates)
        self._halves = self._made(grid_vox) if halves is None else halves

    def add(self, update: Update) -> None:
        """Add an update."""
        self._updates.append(update)
        self._halves = update.applied(self._halves, self._grid_vox, coarse_shape(self._shape, self._grid_vox))

    def on(self, grid_vox: int) -> Halves:
        """The mappings on a grid: made there anew if it is finer than the one so far, which it then replaces."""
        if grid_vox < self._grid_vox:
            self._grid_vox, self._halves = grid_vox, self._made(grid_vox)
        stride = grid_vox // self._grid_vox
        return self._halves if stride == 1 else self._halves.coarsened(stride)

    def _made(self, grid_vox: int) -> Halves:
        halves = Halves()
        for update in self._updates:
            halves = update.applied(halves, grid_vox, coarse_shape(self._shape, grid_vox))
        return halves
