"""The rotation that a field holds at every voxel, and vectors turned by it.

Source: Alexander et al. 2001, "Spatial transformations of diffusion tensor magnetic resonance images", IEEE TMI 20: the
finite-strain rotation of a map is the orthogonal factor of its Jacobian.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from lumirkit.registration.grid import Grid

_CHUNK = 1 << 18  # voxels decomposed together


def turn_back(
    vectors: Float[ndarray, "x y z 3"], disp_ras_mm: Float[ndarray, "x y z 3"], fixed: Grid
) -> Float[ndarray, "x y z 3"]:
    """Turn vectors of the moving image, read at every fixed voxel, to their directions in the fixed image.

    Args:
        vectors: components along right, anterior and superior.
        disp_ras_mm: moving position minus fixed position; each axis has at least two voxels.

    Returns:
        The vectors of the same lengths and dtype; where the field folds, turned by the nearest proper rotation.
    """
    turned = np.zeros_like(vectors)
    found = np.nonzero(vectors.any(axis=-1))
    slopes = np.stack(np.gradient(disp_ras_mm, axis=(0, 1, 2)), axis=-1)  # by voxel, along the last axis
    for start in range(0, len(found[0]), _CHUNK):
        at = tuple(index[start : start + _CHUNK] for index in found)
        jacobian = np.eye(3) + slopes[at] @ fixed.voxel_from_mm[:3, :3]
        turned[at] = np.einsum("nji,nj->ni", rotation_of(jacobian), vectors[at])
    return turned


def rotation_of(matrices: Float[ndarray, "n 3 3"]) -> Float64[ndarray, "n 3 3"]:
    """The proper rotation nearest to each matrix."""
    left, _, right = np.linalg.svd(matrices)
    left[..., -1] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right
