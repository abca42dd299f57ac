"""Nearest-neighbour label warp against scipy, whose rounding the evaluator's numbers depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from lumirkit.eval.metrics.shared.warping import warp_labels

SHAPE = (6, 5, 4)
# Halves, borders and their neighbours in floating point; 0.49999999999999994 + 0.5 rounds to 1.
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 1.0, -1.0, 3.0, 0.49999999999999994, 1e-17, -1e-17, 1e-9, -1e-9, 100.0]
special = st.sampled_from(SPECIAL)
steps = st.one_of(special, st.floats(-7, 7), st.builds(lambda a, b: float(np.nextafter(a, b)), special, special))


def by_scipy(moving, disp_vox):
    coordinates = np.indices(disp_vox.shape[:3]) + np.moveaxis(disp_vox.astype(np.float64), -1, 0)
    return map_coordinates(moving.astype(np.float64), coordinates, order=0)


def random_map(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(np.int32)


@given(st.lists(steps, min_size=1, max_size=12), st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
def test_equals_scipy_at_halves_and_borders(values, seed, dtype):
    rng = np.random.default_rng(seed)
    disp_vox = rng.choice(np.array(values), (*SHAPE, 3)).astype(dtype)
    moving = random_map()
    np.testing.assert_array_equal(warp_labels(moving, disp_vox), by_scipy(moving, disp_vox))


@pytest.mark.parametrize("layout", ["C", "F", "channels first"])
def test_equals_scipy_in_every_memory_layout(layout):
    moving = random_map(1, (37, 9, 8))
    disp_vox = np.random.default_rng(2).normal(0, 2, (37, 9, 8, 3))
    expected = by_scipy(moving, disp_vox)
    if layout == "channels first":
        disp_vox = np.moveaxis(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)), 0, -1)
    else:
        moving, disp_vox = np.array(moving, order=layout), np.array(disp_vox, order=layout)
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
