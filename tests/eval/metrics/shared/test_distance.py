"""Exact distances between point sets against a k-d tree, on every path of the search."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

import lumirkit.eval.metrics.shared.distance
from lumirkit.eval.metrics.shared.distance import squared_distances


def random_points(rng, shape, shift):
    points = np.unique(rng.integers(0, shape, (rng.integers(1, 60), 3)), axis=0)
    return (points + shift).astype(np.int16)


# -1 and 0 lookups a voxel: rows are merged from the first or the second query on.
@pytest.mark.parametrize("lookups", [8, 0, -1])
def test_equals_a_tree(lookups, monkeypatch):
    monkeypatch.setattr(lumirkit.eval.metrics.shared.distance, "_LOOKUPS_PER_VOXEL", lookups)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 30, 3)
        first = random_points(rng, shape, 0)
        second = random_points(rng, shape, rng.integers(-30, 30, 3))
        forward, backward = squared_distances(first, second)
        np.testing.assert_array_equal(forward, np.rint(cKDTree(second).query(first)[0] ** 2))
        np.testing.assert_array_equal(backward, np.rint(cKDTree(first).query(second)[0] ** 2))
