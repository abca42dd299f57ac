"""Sparse operators along one axis: every output is a weighted sum of a few inputs.

`columns` and `weights` are (taps, n_out): output i is the sum over t of weights[t, i] * input[columns[t, i]].
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from lumirkit.base.compiled import compiled_loops

Array = np.ndarray[Any, Any]
_PART = 4096  # numbers summed at a time: they stay in the first-level cache


@compiled_loops
def apply_to_rows(volume: Array, columns: Array, weights: Array, out: Array) -> None:
    """Apply an operator along the middle axis: `volume` (n, n_in, width) to `out` (n, n_out, width)."""
    n, n_out, width = out.shape
    parts = (width + _PART - 1) // _PART
    for task in numba.prange(n * n_out):
        m, i = task // n_out, task % n_out
        for part in range(parts):
            first, end = part * _PART, min((part + 1) * _PART, width)
            result = out[m, i, first:end]
            result[:] = weights[0, i] * volume[m, columns[0, i], first:end]
            for t in range(1, len(columns)):
                weight, row = weights[t, i], volume[m, columns[t, i], first:end]
                if weight != 0:
                    for j in range(result.size):
                        result[j] += weight * row[j]


@compiled_loops
def apply_within_rows(volume: Array, columns: Array, weights: Array, out: Array) -> None:
    """Apply an operator along the last axis: `volume` (n, n_in) to `out` (n, n_out)."""
    for m in numba.prange(len(out)):
        row, result = volume[m], out[m]
        for i in range(result.size):
            result[i] = weights[0, i] * row[columns[0, i]]
        for t in range(1, len(columns)):
            column, weight = columns[t], weights[t]
            for i in range(result.size):
                result[i] += weight[i] * row[column[i]]
