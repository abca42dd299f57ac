"""Dice overlap of label maps, all labels from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int16, Int32, Int64
from numpy import ndarray

from lumirkit.base.compiled import compiled


def label_index(labels: Sequence[int]) -> Int16[ndarray, " ids"]:
    """Table from a label id to its place among the sorted ids of `labels`; every other id gets the place behind them.

    The table ends with one entry for all ids beyond it, negative ones included (see `index_map`).
    """
    ids = np.unique(np.asarray(labels, dtype=np.int64))
    table = np.full(int(ids.max(initial=0)) + 2, ids.size, dtype=np.int16)
    table[ids] = np.arange(ids.size, dtype=np.int16)
    return table


def index_map(label_map: Int32[ndarray, "*grid"], table: Int16[ndarray, " ids"]) -> Int16[ndarray, "*grid"]:
    """The label map with each id replaced by its place in `table`; in Fortran order, as files hold it."""
    flat = np.asfortranarray(label_map, dtype=np.int32).reshape(-1, order="F")
    indices = np.empty(flat.size, dtype=np.int16)
    _index(flat, table, indices)
    return indices.reshape(label_map.shape, order="F")


def confusion_matrix(
    fixed: Int16[ndarray, "*grid"], warped: Int16[ndarray, "*grid"], size: int
) -> Int64[ndarray, "size size"]:
    """Voxels with each pair of indices: rows for the fixed map, columns for the warped one."""
    counts = np.zeros((size, size), dtype=np.int64)
    _count(fixed.reshape(-1, order="F"), warped.reshape(-1, order="F"), counts)
    return counts


def dice_per_label(
    confusion: Int64[ndarray, "size size"], in_moving: Int64[ndarray, " size"]
) -> Float64[ndarray, " size"]:
    """Dice of each label between the fixed and the warped label map.

    NaN where the label is absent from the fixed or from the unwarped moving map (the rule of the LUMIR evaluator); 0
    where warping emptied it.

    Args:
        confusion: voxels by fixed (rows) and warped (columns) label.
        in_moving: voxels of each label in the moving map before warping.
    """
    in_fixed, in_warped = confusion.sum(axis=1), confusion.sum(axis=0)
    scored = (in_fixed > 0) & (in_moving > 0)
    dice = np.full(in_fixed.size, np.nan)
    dice[scored] = 2.0 * np.diagonal(confusion)[scored] / (in_fixed + in_warped)[scored]
    return dice


@compiled
def _index(label_map: Int32[ndarray, " n"], table: Int16[ndarray, " ids"], indices: Int16[ndarray, " n"]) -> None:
    last = table.size - 1
    for voxel in range(label_map.size):
        label = label_map[voxel]
        indices[voxel] = table[label] if 0 <= label < last else table[last]


@compiled
def _count(fixed: Int16[ndarray, " n"], warped: Int16[ndarray, " n"], counts: Int64[ndarray, "size size"]) -> None:
    for voxel in range(fixed.size):
        counts[fixed[voxel], warped[voxel]] += 1
