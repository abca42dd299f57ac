"""Arrays as ANTs images; ANTs (antspyx, Apache-2.0) comes with the extras `baselines` and `prepare`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumirkit.registration.grid import itk_geometry


def to_ants(data: NDArray[np.float32], affine: NDArray[np.float64]) -> Any:
    """Make an ANTs image of an array (X, Y, Z) with the geometry of a NIfTI affine (4, 4), voxels to RAS mm."""
    import ants

    origin, spacing, direction = itk_geometry(affine)
    return ants.from_numpy(data, origin=tuple(origin), spacing=tuple(spacing), direction=direction)
