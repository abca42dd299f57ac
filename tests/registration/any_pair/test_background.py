"""Images whose background is not 0, or lies among the brain's intensities."""

from pathlib import Path

import numpy as np
import pytest

from lumirkit.base.errors import VolumeError
from lumirkit.registration.any_pair.background import on_dark_background
from lumirkit.registration.any_pair.frame import normalised
from lumirkit.registration.volume import Volume

INSIDE = np.zeros((20, 22, 18), bool)
INSIDE[4:16, 4:18, 4:14] = True
PLAIN = np.where(INSIDE, np.random.default_rng(1).integers(1, 256, INSIDE.shape), 0).astype(np.float32)
BRAIN = PLAIN[INSIDE]
DISGUISES = {
    "z-scored brain": np.where(INSIDE, (PLAIN - BRAIN.mean()) / BRAIN.std(), 0),
    "z-scored volume": (PLAIN - PLAIN.mean()) / PLAIN.std(),
    "-1…1": PLAIN / 127.5 - 1,
    "background 50": PLAIN + 50,
    "background -1024": np.where(INSIDE, PLAIN, -1024),
    "white background": np.where(INSIDE, PLAIN, 1000),
}


def volume(data):
    return Volume(Path("image.nii.gz"), np.asarray(data, np.float32), np.eye(4))


@pytest.mark.parametrize("data", DISGUISES.values(), ids=DISGUISES)
def test_a_disguised_brain_becomes_what_it_was(data):
    said = []
    found = normalised(on_dark_background(volume(data), said.append)).data
    np.testing.assert_array_equal(found > 0, INSIDE)
    np.testing.assert_allclose(found, PLAIN, atol=1.5)
    (remark,) = said
    assert "image.nii.gz" in remark


@pytest.mark.parametrize("scale", [1, 0.003, 20])
def test_an_image_on_background_0_stays_as_it_is(scale):
    image = volume(scale * PLAIN)
    assert on_dark_background(image, pytest.fail) is image


def test_what_smooth_resampling_leaves_below_0_is_no_brain():
    rim = np.roll(INSIDE, 1, 0) & ~INSIDE
    image = volume(np.where(rim, -5, PLAIN))
    assert on_dark_background(image, pytest.fail) is image


def test_a_background_that_cannot_be_found_is_said():
    said = []
    noisy = volume(np.random.default_rng(2).normal(size=INSIDE.shape) + INSIDE)
    assert on_dark_background(noisy, said.append) is noisy
    assert "image.nii.gz" in said[0]


def test_an_image_of_one_value_is_refused():
    with pytest.raises(VolumeError, match="every voxel is 50"):
        on_dark_background(volume(np.full(INSIDE.shape, 50)), pytest.fail)
