"""Distances between the surfaces of label maps: HD95, Hausdorff distance and surface Dice.

Gives the numbers of DeepMind's surface-distance 0.1 (spacing 1), from which the surface elements and their areas are
taken: a surface element ("surfel") sits at each corner of the voxel grid whose eight voxels are partly inside a label.
The library works through one label at a time in a float64 distance transform; here all surfels of a map are found in
one pass, and distances are searched only where the other surface has a surfel (`eval/metrics/distance.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int32, Int64, UInt8
from numpy import ndarray
from surface_distance.lookup_tables import (
    ENCODE_NEIGHBOURHOOD_3D_KERNEL,
    create_table_neighbour_code_to_surface_area,
)

from lumirkit.base.compiled import compiled
from lumirkit.eval.metrics.shared.distance import squared_distances

_PERCENT = 95
_TOLERANCE_VOX = 1.0
_SPACING = (1.0, 1.0, 1.0)  # the evaluator measures in voxels; LUMIR images have 1 mm


@dataclass(frozen=True)
class Surfaces:
    """The surfels of every label of a map; those of label index n are [start[n] : start[n + 1]].

    `corners` (n, 3) are corners of the voxel grid in (z, y, x), the upper corner of voxel p being p + 1; `codes` say
    which of a corner's eight voxels are inside, in the encoding of the library.
    """

    start: Int64[ndarray, " labels+1"]
    corners: Int16[ndarray, "n 3"]
    codes: UInt8[ndarray, " n"]


@dataclass(frozen=True)
class SurfaceScores:
    """The 95th percentile and the largest Hausdorff distance in voxels, and surface Dice at 1 voxel, by label index."""

    hd95_vox: Float64[ndarray, " labels"]
    hd100_vox: Float64[ndarray, " labels"]
    surface_dice: Float64[ndarray, " labels"]


def find_surfaces(indices: Int16[ndarray, "x y z"], labels: int) -> Surfaces:
    """All surfels of the indices 0 to labels - 1; others are passed over, and outside the volume is no label."""
    padded = np.full(tuple(size + 2 for size in reversed(indices.shape)), -1, dtype=np.int16)
    padded[1:-1, 1:-1, 1:-1] = indices.T
    bits = np.ascontiguousarray(np.transpose(ENCODE_NEIGHBOURHOOD_3D_KERNEL), dtype=np.uint8).ravel()
    start = np.zeros(labels + 1, dtype=np.int64)
    nothing = np.empty((0, 3), dtype=np.int16), np.empty(0, dtype=np.uint8)
    np.cumsum(_walk_surfaces(padded, bits, labels, np.empty(0, dtype=np.int64), *nothing), out=start[1:])
    corners, codes = np.empty((start[-1], 3), dtype=np.int16), np.empty(start[-1], dtype=np.uint8)
    _walk_surfaces(padded, bits, labels, start[:-1].copy(), corners, codes)
    return Surfaces(start, corners, codes)


def surface_scores_per_label(fixed: Surfaces, warped: Surfaces, scored: Bool[ndarray, " labels"]) -> SurfaceScores:
    """Surface scores of each label between the fixed and the warped map.

    The Hausdorff distances are the larger of the two directions; percentiles and surface Dice are weighted by surface
    area. Where `scored` is False all three are NaN. Where warping emptied a label, distances are inf (the answer of the
    library, which under numpy 2 it cannot give: it asks for np.Inf) and the surface Dice is 0.
    """
    scores = SurfaceScores(*np.full((3, scored.size), np.nan))
    for label in np.flatnonzero(scored):
        here, there = (slice(s.start[label], s.start[label + 1]) for s in (fixed, warped))
        if here.start == here.stop or there.start == there.stop:
            values = np.inf, np.inf, 0.0
        else:
            squared = squared_distances(fixed.corners[here], warped.corners[there])
            values = _score_label(squared, (fixed.codes[here], warped.codes[there]))
        scores.hd95_vox[label], scores.hd100_vox[label], scores.surface_dice[label] = values
    return scores


def _score_label(
    squared: tuple[Int32[ndarray, " n"], Int32[ndarray, " m"]], codes: tuple[UInt8[ndarray, " n"], UInt8[ndarray, " m"]]
) -> tuple[float, float, float]:
    percentiles, largest, near, total = [], [], 0.0, 0.0
    for direction in range(2):
        distances, areas = _sorted_by_distance(squared[direction], codes[direction])
        area = np.sum(areas)
        # Sum and cumulated sum are taken as the library takes them: a rounding more or less could move the percentile
        # on to the next surfel.
        index = int(np.searchsorted(np.cumsum(areas) / area, _PERCENT / 100.0))
        percentiles.append(float(distances[min(index, distances.size - 1)]))
        largest.append(float(distances[-1]))
        near += float(np.sum(areas[distances <= _TOLERANCE_VOX]))
        total += float(area)
    return max(percentiles), max(largest), near / total


def _sorted_by_distance(
    squared: Int32[ndarray, " n"], codes: UInt8[ndarray, " n"]
) -> tuple[Float64[ndarray, " n"], Float64[ndarray, " n"]]:
    """Distances in voxels and areas of surfels, sorted by distance and then by area."""
    areas, rank = _areas()
    keys = squared.astype(np.int64) * areas.size + rank[codes]
    counts = np.bincount(keys)  # few distinct values occur: counting is faster than sorting
    present = np.flatnonzero(counts)
    distance, area = np.sqrt((present // areas.size).astype(np.float64)), areas[present % areas.size]
    return np.repeat(distance, counts[present]), np.repeat(area, counts[present])


@cache
def _areas() -> tuple[Float64[ndarray, " areas"], Int64[ndarray, " 256"]]:
    """The distinct surfel areas in rising order, and the place of each code's area among them."""
    areas, rank = np.unique(create_table_neighbour_code_to_surface_area(_SPACING), return_inverse=True)
    return areas, rank


@compiled
def _walk_surfaces(
    padded: Int16[ndarray, "z y x"],
    bits: UInt8[ndarray, " 8"],
    labels: int,
    place: Int64[ndarray, " labels"],
    corners: Int16[ndarray, "n 3"],
    codes: UInt8[ndarray, " n"],
) -> Int64[ndarray, " labels"]:
    """Count the surfels of each label; where `place` says where the next one of a label goes, write them there too."""
    counts = np.zeros(labels, dtype=np.int64)
    cell = np.empty(8, dtype=np.int16)
    depth, height, width = padded.shape
    for z in range(depth - 1):
        for y in range(height - 1):
            for x in range(width - 1):
                first = padded[z, y, x]
                if (
                    first == padded[z, y, x + 1]
                    and first == padded[z, y + 1, x]
                    and first == padded[z, y + 1, x + 1]
                    and first == padded[z + 1, y, x]
                    and first == padded[z + 1, y, x + 1]
                    and first == padded[z + 1, y + 1, x]
                    and first == padded[z + 1, y + 1, x + 1]
                ):
                    continue
                for n in range(8):
                    cell[n] = padded[z + (n >> 2), y + ((n >> 1) & 1), x + (n & 1)]
                for n in range(8):
                    label = cell[n]
                    if label < 0 or label >= labels:
                        continue
                    code = 0
                    for m in range(8):
                        if cell[m] == label:
                            if m < n:
                                break  # an earlier voxel of the cell has done this label
                            code += bits[m]
                    else:
                        counts[label] += 1
                        if place.size:
                            at = place[label]
                            place[label] += 1
                            corners[at, 0], corners[at, 1], corners[at, 2] = z, y, x
                            codes[at] = code
    return counts
