"""What p-values become when several tests are made at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy import stats


def holm(p: Sequence[float]) -> Float64[ndarray, " tests"]:
    """Correct a family of p so that any false rejection at all is as rare as the level says.

    The k-th smallest of n is multiplied by n - k + 1, and none is below a smaller one. Source: Holm, "A simple
    sequentially rejective multiple test procedure", 1979.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1)), 1)
    return corrected


def benjamini_hochberg(p: Sequence[float]) -> Float64[ndarray, " tests"]:
    """Correct a family of p so that the expected share of false rejections among all is what the level says."""
    return np.asarray(stats.false_discovery_control(p, method="bh"))
