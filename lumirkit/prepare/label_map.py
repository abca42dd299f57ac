"""A label map on another grid: each voxel gets the id with the largest share of it, as by `genericLabel` of ANTs."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

_ROUNDING = 1e-6  # of a share; without it chance would decide where two are equal


def resampled_ids(
    ids: Shaped[ndarray, "i j k"], matrix: Float64[ndarray, "4 4"], shape: tuple[int, int, int]
) -> Shaped[ndarray, "x y z"]:
    """Read a label map on another grid.

    The map of each id, 1 where it is and 0 elsewhere, is interpolated linearly, and the id with the largest value wins;
    of equal ones the lowest. The nearest voxel would leave steps as coarse as the map's voxels.

    Args:
        ids: whole numbers; 0 is background, and so is all beyond the map.
        matrix: takes voxels of the new grid to voxels of the map.
        shape: of the new grid.

    Returns:
        The ids there, in the type of `ids`.
    """
    padded = np.pad(ids, 1)
    plane = np.stack(np.meshgrid(*map(np.arange, shape[1:]), indexing="ij"), axis=-1) @ matrix[:3, 1:3].T
    found = np.empty(shape, ids.dtype)
    for x in range(shape[0]):  # a plane at a time, as eight neighbours of every voxel take much memory
        at = plane + (matrix[:3, 0] * x + matrix[:3, 3] + 1)
        found[x] = _read(padded, np.clip(at, 0, np.array(padded.shape) - 1).reshape(-1, 3)).reshape(shape[1:])
    return found


def _read(ids: Shaped[ndarray, "i j k"], at: Float64[ndarray, "n 3"]) -> Shaped[ndarray, " n"]:
    """The id with the largest share at each place within a map."""
    first = np.minimum(at.astype(int), np.array(ids.shape) - 2)
    neighbours = np.stack([ids[tuple((first + corner).T)] for corner in product((0, 1), repeat=3)])
    found = neighbours[0].copy()
    mixed = np.flatnonzero((neighbours != found).any(axis=0))
    neighbours, beyond = neighbours[:, mixed], (at - first)[mixed].T
    weights = [
        np.prod([part if step else 1 - part for step, part in zip(corner, beyond, strict=True)], axis=0)
        for corner in product((0, 1), repeat=3)
    ]
    best, largest = neighbours[0], np.full(len(mixed), -1.0)
    for each in neighbours:
        share = sum(weight * (other == each) for weight, other in zip(weights, neighbours, strict=True))
        wins = (share > largest + _ROUNDING) | ((share > largest - _ROUNDING) & (each < best))
        best, largest = np.where(wins, each, best), np.where(wins, share, largest)
    found[mixed] = best
    return found
