"""What a refinement does: how many steps on which grids, and the weights of its loss."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt

from lumirkit.base.errors import RequestError
from lumirkit.registration.odd_window import OddWindow

_COARSEST_VOX = 8  # the first grid: errors of a network are not all small
_FINEST_VOX = 2  # the last one where no network says what its own is
_LEAST_SPACING_VOX = 2


@dataclass(frozen=True)
class Stage:
    """One update more: the grid of its fields."""

    grid_vox: int
    """How many image voxels a voxel of the grid spans along each axis."""

    @property
    def spacing_vox(self) -> int:
        """How many image voxels lie between control points, a multiple of `grid_vox`."""
        return max(self.grid_vox, _LEAST_SPACING_VOX)

    @property
    def seen_vox(self) -> int:
        """How many voxels of the images one spans that the loss compares; fields need a finer grid less than images."""
        return max(1, self.grid_vox // 2)


class Refinement(BaseModel):
    """The settings of a refinement; it goes from a coarse grid to the network's, or beyond, each of half the voxels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt
    """The most steps on each grid; it ends earlier where steps gain nothing."""
    finest_vox: PositiveInt | None = None
    """How many image voxels a voxel of the finest grid spans along each axis; None for the network's grid, or for 2
    where there is no network."""
    learning_rate: PositiveFloat = 0.2
    """The root mean square of a step, in units of atanh(control point / its bound)."""
    ncc_window_vox: OddWindow = 11
    """The edge of the local NCC window, an odd number of voxels of the images that a stage compares."""
    diffusion_weight: NonNegativeFloat = 1.0
    """Weight of the mean squared difference of neighbouring displacements, in voxels of a stage squared."""
    folding_weight: NonNegativeFloat = 70.0
    """Weight of the share of the volume that folds."""

    def stages(self, resolution_vox: int | None) -> tuple[Stage, ...]:
        """The stages from coarse to fine.

        Args:
            resolution_vox: how many image voxels a voxel of the network's grid spans; None where there is no network.

        Raises:
            RequestError: the finest grid is none of those that halving leads to.
        """
        networks = resolution_vox or _FINEST_VOX
        finest = self.finest_vox or networks
        possible = _halved(networks)
        if finest not in possible:
            raise RequestError(
                f"--refine-grid: found {finest}; expected one of {', '.join(map(str, possible))} "
                "image voxels: those of the network's grid (2 where there is none), or those halved."
            )
        grids = [finest]
        while 2 * grids[0] <= max(networks, _COARSEST_VOX):
            grids.insert(0, 2 * grids[0])
        return tuple(Stage(grid) for grid in grids)


def chosen_refinement(steps: int, finest_vox: int | None) -> Refinement | None:
    """The refinement that the options `--refine` and `--refine-grid` ask for; None where they ask for none.

    Raises:
        RequestError: a number is no whole number or too small, or a grid is named, and no steps.
    """
    if steps == 0 and finest_vox is None:
        return None
    if isinstance(steps, bool) or not (isinstance(steps, Integral) and steps > 0):
        raise RequestError(
            f"--refine: found {steps!r} steps; expected a whole number from 1 on, or 0 without --refine-grid."
        )
    if not (finest_vox is None or (isinstance(finest_vox, Integral) and finest_vox > 0)):
        raise RequestError(f"--refine-grid: found {finest_vox!r} voxels; expected a whole number from 1 on.")
    return Refinement(steps=steps, finest_vox=finest_vox)


def _halved(number: int) -> list[int]:
    """The number, its half, and so on while it can be halved."""
    return [number, *(_halved(number // 2) if number % 2 == 0 else [])]
