"""Exact distances from one set of grid points to another, fast where most of them are small.

A row of the grid is a line along x. For every grid point of the box around both sets the distance to the nearest target
in its own row is noted; a query then looks through the rows around it, nearest first, for as long as a nearer target is
possible. Its cost grows with the square of the distance, so where the sets lie far apart the rows of each plane are
merged first with the linear-time transform of Meijster et al. 2000, "A general algorithm for computing distance
transforms in linear time". Squared distances are whole numbers: both ways give exactly the same.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int16, Int32
from numpy import ndarray

from lumirkit.base.compiled import compiled

_FAR = 1 << 14  # voxels; more than any axis has, and its square fits 32 bits
_LOOKUPS_PER_VOXEL = 8  # merging the rows costs about as much as this many lookups for each voxel of the box


def squared_distances(
    first: Int16[ndarray, "n 3"], second: Int16[ndarray, "m 3"]
) -> tuple[Int32[ndarray, " n"], Int32[ndarray, " m"]]:
    """Squared distance from each point to the nearest point of the other set, both ways.

    Args:
        first: grid points in (z, y, x); at least one.
        second: likewise.
    """
    low = np.minimum(first.min(axis=0), second.min(axis=0))
    shape = np.maximum(first.max(axis=0), second.max(axis=0)) - low + 1
    first, second = first - low, second - low
    rows = np.empty(shape, dtype=np.int16)
    return _nearest(first, second, rows), _nearest(second, first, rows)


def _nearest(
    queries: Int16[ndarray, "n 3"], targets: Int16[ndarray, "m 3"], rows: Int16[ndarray, "z y x"]
) -> Int32[ndarray, " n"]:
    nearest = np.empty(queries.shape[0], dtype=np.int32)
    _fill_rows(targets, rows)
    done = _search_rows(queries, rows, _LOOKUPS_PER_VOXEL * rows.size, nearest)
    if done < nearest.size:
        planes = np.empty(rows.shape, dtype=np.int32)
        _merge_rows(rows, planes)
        _search_planes(queries[done:], planes, nearest[done:])
    return nearest


@compiled
def _fill_rows(targets: Int16[ndarray, "m 3"], rows: Int16[ndarray, "z y x"]) -> None:
    """Note for each grid point how far the nearest target in its row is; _FAR where the row has none."""
    depth, height, width = rows.shape
    rows[:] = _FAR
    for n in range(targets.shape[0]):
        rows[targets[n, 0], targets[n, 1], targets[n, 2]] = 0
    for z in range(depth):
        for y in range(height):
            row = rows[z, y]
            for x in range(1, width):
                row[x] = min(row[x], row[x - 1] + 1)
            for x in range(width - 2, -1, -1):
                row[x] = min(row[x], row[x + 1] + 1)


@compiled
def _search_rows(
    queries: Int16[ndarray, "n 3"], rows: Int16[ndarray, "z y x"], lookups: int, nearest: Int32[ndarray, " n"]
) -> int:
    """Fill `nearest` from the front until the lookups are spent; return how many queries are answered."""
    depth, height, _ = rows.shape
    for n in range(queries.shape[0]):
        if lookups < 0:
            return n
        z, y, x = queries[n, 0], queries[n, 1], queries[n, 2]
        best = _FAR * _FAR
        for dz in range(depth):
            if dz * dz >= best:
                break
            for side in range(2 if dz else 1):
                row_z = z - dz if side else z + dz
                if row_z < 0 or row_z >= depth:
                    continue
                for dy in range(height):
                    beside = dz * dz + dy * dy
                    if beside >= best:
                        break
                    lookups -= 1
                    if y + dy < height:
                        step = int(rows[row_z, y + dy, x])
                        best = min(best, beside + step * step)
                    if y >= dy:
                        step = int(rows[row_z, y - dy, x])
                        best = min(best, beside + step * step)
        nearest[n] = best
    return queries.shape[0]


@compiled
def _merge_rows(rows: Int16[ndarray, "z y x"], planes: Int32[ndarray, "z y x"]) -> None:
    """Squared distance of each grid point to the nearest target in its plane, by the envelope of parabolas along y."""
    depth, height, width = rows.shape
    apex, begin = np.empty(height, dtype=np.int64), np.empty(height, dtype=np.int64)
    squared = np.empty(height, dtype=np.int64)
    for z in range(depth):
        for x in range(width):
            for y in range(height):
                squared[y] = np.int64(rows[z, y, x]) ** 2
            last, apex[0], begin[0] = 0, 0, 0
            for y in range(1, height):
                while last >= 0:
                    at, top = begin[last], apex[last]
                    if (at - top) ** 2 + squared[top] <= (at - y) ** 2 + squared[y]:
                        break
                    last -= 1
                if last < 0:
                    last, apex[0] = 0, y
                else:
                    top = apex[last]
                    at = 1 + (y * y - top * top + squared[y] - squared[top]) // (2 * (y - top))
                    if at < height:
                        last += 1
                        apex[last], begin[last] = y, at
            for y in range(height - 1, -1, -1):
                planes[z, y, x] = min((y - apex[last]) ** 2 + squared[apex[last]], _FAR * _FAR)
                if y == begin[last]:
                    last -= 1


@compiled
def _search_planes(
    queries: Int16[ndarray, "n 3"], planes: Int32[ndarray, "z y x"], nearest: Int32[ndarray, " n"]
) -> None:
    depth = planes.shape[0]
    for n in range(queries.shape[0]):
        z, y, x = queries[n, 0], queries[n, 1], queries[n, 2]
        best = np.int64(planes[z, y, x])
        for dz in range(1, depth):
            if dz * dz >= best:
                break
            if z + dz < depth:
                best = min(best, dz * dz + planes[z + dz, y, x])
            if z >= dz:
                best = min(best, dz * dz + planes[z - dz, y, x])
        nearest[n] = best
