"""Target registration error of landmarks stored as a label map: the leaderboard's, and at the points themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int16, Int32, Int64
from numpy import ndarray
from scipy.ndimage import map_coordinates

from lumirkit.base.compiled import compiled
from lumirkit.eval.metrics.dice import index_map, label_index


@dataclass(frozen=True)
class LandmarkErrors:
    """Errors of the landmarks of the fixed map, one entry a landmark.

    `tre` is the leaderboard's: from the centroid of the fixed landmark to the centroid of the moving landmark after it
    was warped by nearest neighbour; NaN where warping lost it. `point` warps the fixed centroid itself by the
    interpolated field and compares it with the moving centroid: nothing is rounded to voxels, and no landmark gets
    lost; NaN only where the moving map lacks the landmark.
    """

    landmarks: Int64[ndarray, " n"]
    tre_vox: Float64[ndarray, " n"]
    tre_mm: Float64[ndarray, " n"]
    point_vox: Float64[ndarray, " n"]
    point_mm: Float64[ndarray, " n"]

    @property
    def mean_tre_vox(self) -> float:
        """The leaderboard's TRE: the mean over all landmarks, NaN if one was lost."""
        return float(self.tre_vox.mean())


def landmark_errors(
    fixed: Int32[ndarray, "x y z"],
    moving: Int32[ndarray, "x y z"],
    warped: Int32[ndarray, "x y z"],
    disp_vox: Float[ndarray, "x y z 3"],
    affine: Float64[ndarray, "4 4"],
) -> LandmarkErrors:
    """Errors of every landmark of the fixed map; label 0 is background.

    Args:
        fixed: landmark map on the fixed grid.
        moving: landmark map on the moving grid.
        warped: the moving map carried to the fixed grid by nearest neighbour.
        disp_vox: displacement in voxels, in array-axis order.
        affine: from voxels to mm, of both grids.

    Raises:
        ValueError: the fixed map has no landmark.
    """
    landmarks = np.unique(fixed[fixed > 0]).astype(np.int64)
    if not landmarks.size:
        raise ValueError("the fixed landmark map has no label above 0; expected at least one landmark.")
    table = label_index(landmarks.tolist())
    in_fixed, in_moving, in_warped = (
        centroids(index_map(label_map, table), landmarks.size) for label_map in (fixed, moving, warped)
    )
    tre = _lengths(in_warped - in_fixed, affine)
    return LandmarkErrors(landmarks, *tre, *point_errors(in_fixed, in_moving, disp_vox, affine))


def point_errors(
    in_fixed: Float64[ndarray, "n 3"],
    in_moving: Float64[ndarray, "n 3"],
    disp_vox: Float[ndarray, "x y z 3"],
    affine: Float64[ndarray, "4 4"],
) -> tuple[Float64[ndarray, " n"], Float64[ndarray, " n"]]:
    """Distance of p + u(p), u interpolated linearly, from the point of the moving image, in voxels and in mm.

    Args:
        in_fixed: points p in voxels of the fixed grid.
        in_moving: where they belong, in voxels of the moving grid; NaN gives NaN.
        disp_vox: u, in voxels and array-axis order.
        affine: from voxels to mm, of both grids.
    """
    at_point = [map_coordinates(disp_vox[..., axis], in_fixed.T, order=1, mode="nearest") for axis in range(3)]
    return _lengths(in_fixed + np.stack(at_point, axis=1) - in_moving, affine)


def _lengths(
    vectors_vox: Float64[ndarray, "n 3"], affine: Float64[ndarray, "4 4"]
) -> tuple[Float64[ndarray, " n"], Float64[ndarray, " n"]]:
    """Lengths of vectors in voxels and in mm."""
    return np.linalg.norm(vectors_vox, axis=1), np.linalg.norm(vectors_vox @ affine[:3, :3].T, axis=1)


def centroids(indices: Int16[ndarray, "x y z"], labels: int) -> Float64[ndarray, "n 3"]:
    """Mean voxel coordinate of each of the indices 0 to labels - 1, NaN where the map lacks it."""
    sums = np.zeros((labels, 4), dtype=np.int64)
    _sum_coordinates(indices.T, sums)
    count = sums[:, 3:].astype(np.float64)
    count[count == 0] = np.nan
    return sums[:, :3] / count


@compiled
def _sum_coordinates(indices: Int16[ndarray, "z y x"], sums: Int64[ndarray, "n 4"]) -> None:
    """Sums of x, y and z over the voxels of each label, and their number."""
    depth, height, width = indices.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                label = indices[z, y, x]
                if label < sums.shape[0]:
                    sums[label, 0] += x
                    sums[label, 1] += y
                    sums[label, 2] += z
                    sums[label, 3] += 1
