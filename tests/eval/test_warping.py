"""Nearest-neighbour label warp."""

import numpy as np
from scipy.ndimage import map_coordinates

from eval.warping import warp_labels


def test_equals_one_call_on_the_whole_volume():
    rng = np.random.default_rng(0)
    moving = rng.integers(0, 200, (37, 9, 8)).astype(np.int32)
    disp_vox = rng.normal(0, 2, (*moving.shape, 3))
    coordinates = np.indices(moving.shape) + np.moveaxis(disp_vox, -1, 0)
    expected = map_coordinates(moving.astype(np.float64), coordinates, order=0)
    warped = warp_labels(moving, disp_vox)
    assert warped.dtype == np.int32
    np.testing.assert_array_equal(warped, expected)


def test_pulls_from_where_the_displacement_points():
    moving = np.arange(1, 61, dtype=np.int32).reshape(5, 4, 3)
    disp_vox = np.zeros((5, 4, 3, 3))
    disp_vox[..., 0] = 2
    warped = warp_labels(moving, disp_vox)
    np.testing.assert_array_equal(warped[:3], moving[2:])
    assert not warped[3:].any()  # outside the moving map


def test_takes_the_shape_of_the_field():
    assert warp_labels(np.ones((4, 4, 4), dtype=np.int32), np.zeros((3, 5, 4, 3))).shape == (3, 5, 4)
