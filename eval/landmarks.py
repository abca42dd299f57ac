"""Target registration error of landmarks that are stored as a label map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy import ndarray


def target_registration_error(fixed: Int32[ndarray, "x y z"], warped: Int32[ndarray, "x y z"]) -> float:
    """Mean distance, in voxels, between the centroids of equal labels; label 0 is background.

    Averaged over the landmarks of the fixed map. NaN where one of them was lost in warping (the rule of the LUMIR
    evaluator).

    Raises:
        ValueError: the fixed map has no landmark.
    """
    landmarks = np.unique(fixed[fixed > 0]).astype(np.int64)
    if not landmarks.size:
        raise ValueError("the fixed landmark map has no label above 0; expected at least one landmark.")
    distances = np.linalg.norm(_centroids(fixed, landmarks) - _centroids(warped, landmarks), axis=1)
    return float(distances.mean())


def _centroids(label_map: Int32[ndarray, "x y z"], landmarks: Int64[ndarray, " n"]) -> Float64[ndarray, "n 3"]:
    """Mean voxel coordinate of each landmark, NaN where the map lacks it."""
    voxels = np.argwhere(np.isin(label_map, landmarks))
    which = np.searchsorted(landmarks, label_map[tuple(voxels.T)])
    count = np.bincount(which, minlength=landmarks.size).astype(np.float64)
    count[count == 0] = np.nan
    sums = [np.bincount(which, weights=along, minlength=landmarks.size) for along in voxels.T]
    return np.stack(sums, axis=1) / count[:, None]
