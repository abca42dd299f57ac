"""Non-diffeomorphic volume of a displacement field inside the brain."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float64
from numpy import ndarray

from registration.jacobian import non_diffeomorphic_volume

_SLAB = 16  # voxels along x whose determinants are held at a time


def non_diffeomorphic_percentage(disp_vox: Float64[ndarray, "x y z 3"], mask: Bool[ndarray, "x y z"]) -> float:
    """Folded volume inside the mask, in percent of the mask; the outermost layer of voxels is left out of both.

    Args:
        disp_vox: displacement in voxels, in array-axis order.
        mask: where to measure; for LUMIR `fixed image > 0`.

    Raises:
        ValueError: the shapes differ, an axis is shorter than 3, or the mask has no interior voxel.
    """
    if disp_vox.shape != (*mask.shape, 3):
        raise ValueError(f"disp_vox has shape {disp_vox.shape}; expected {(*mask.shape, 3)}, the mask's grid.")
    interior = mask[1:-1, 1:-1, 1:-1]
    voxels = int(interior.sum())
    if not voxels:
        raise ValueError("the mask has no voxel away from the border; expected a brain. Check the fixed image.")
    folded = 0.0
    for start in range(0, interior.shape[0], _SLAB):
        # One voxel more on either side: the determinants of the slab's own voxels need their neighbours.
        slab = np.ascontiguousarray(np.moveaxis(disp_vox[start : start + _SLAB + 2], -1, 0), dtype=np.float64)
        volume = non_diffeomorphic_volume(torch.from_numpy(slab)[None])[0].numpy()
        folded += float(volume[interior[start : start + _SLAB]].sum())
    return 100.0 * folded / voxels
