"""Smooth noise, and pairs of it that differ by a known translation, on straight and on oblique grids."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from lumirkit.registration.volume import Volume

SHAPE = (40, 34, 28)


def oblique_affine():
    """Axes permuted and one flipped, then rotated; another spacing along each; origin off zero."""
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    permutation = np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ permutation * np.array([1.0, 1.5, 0.8])
    affine[:3, 3] = 12, -7, 30
    return affine


AFFINES = {"RAS": np.eye(4), "LPS": np.diag([-1.0, -1, 1, 1]), "oblique": oblique_affine()}
affines = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
axes = pytest.mark.parametrize("axis", range(3), ids="xyz")


def texture(seed=0, shape=SHAPE):
    image = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return (200 * (image - image.min()) / np.ptp(image)).astype(np.float32)


def translated_pair(axis, affine, voxels, path):
    """fixed(p) = moving(p + u) with u = `voxels` along one axis."""
    fixed = texture()
    by = np.zeros(3)
    by[axis] = voxels
    moving = shift(fixed, by, order=1, mode="nearest")
    return (Volume(path, data, affine) for data in (fixed, moving))
