"""The number that `register` ends with."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from lumirkit.registration.any_pair.likeness import likeness
from lumirkit.registration.volume import Volume


@pytest.fixture
def brain():
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(40, 44, 37)), 2)
    ball = sum(axis**2 for axis in np.ogrid[-1:1:40j, -1:1:44j, -1:1:37j]) < 0.6
    return (np.clip(128 + 60 * noise / noise.std(), 1, 255) * ball).astype(np.float32)


def volume(data):
    return Volume("brain", data, np.eye(4))


def test_an_image_is_like_itself(brain):
    still = np.zeros((*brain.shape, 3), np.float32)
    before, after = likeness(volume(brain), volume(brain), still)
    assert before == pytest.approx(1, abs=1e-4)
    assert after == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("inverted", "least"), [(False, 0.95), (True, 0.5)])  # an inverted outline is another one
def test_the_true_field_makes_images_alike_in_any_contrast(brain, inverted, least):
    other = np.where(brain > 0, 256 - brain, 0).astype(np.float32) if inverted else brain
    moved = shift(other, (4, 0, 0), order=1)  # moved(x + 4) = other(x)
    field = np.zeros((*brain.shape, 3), np.float32)
    field[..., 0] = 4
    before, after = likeness(volume(brain), volume(moved), field)
    assert before < 0.4
    assert after > least
