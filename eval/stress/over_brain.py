"""Linear filters of a stripped brain, to which the background does not count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from lumirkit.eval.stress.scan import Scan

_LEAST_SHARE = 0.5  # a voxel shows brain from this share of brain on

Filter = Callable[[Float32[ndarray, "x y z"]], Float32[ndarray, "x y z"]]
"""A linear one with weights of at least 0 that add up to 1, or to less at the border of the grid."""


def filtered_brain(scan: Scan, apply: Filter) -> tuple[Float32[ndarray, "x y z"], Bool[ndarray, "x y z"]]:
    """Filter the brain's intensities: means over the brain's voxels alone, so that its outline does not become dark.

    Returns:
        The intensities, and the voxels of which at least half shows brain after the filter.
    """
    share = apply(scan.brain.astype(np.float32))
    intensities = apply(np.ascontiguousarray(scan.image.data)) / np.maximum(share, np.finfo(np.float32).eps)
    return intensities, share >= _LEAST_SHARE
