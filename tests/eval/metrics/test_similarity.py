"""SSIM and NCC of images whose similarity is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumirkit.eval.metrics.similarity import measure_similarity, warp_image
from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.ssim import local_ssim

SHAPE = (40, 24, 22)
BRAIN = (slice(12, 28), slice(8, 16), slice(7, 15))


def brain_image(seed=0, shape=SHAPE, brain=BRAIN):
    """Noise of 50 to 255 on a background of zeros."""
    image = np.zeros(shape, dtype=np.float32)
    image[brain] = np.random.default_rng(seed).uniform(50, 255, image[brain].shape)
    return image


def constant_field(vector, shape=SHAPE):
    return np.broadcast_to(np.array(vector, dtype=np.float32), (*shape, 3))


NOTHING = constant_field((0, 0, 0))
whole = st.integers(-4, 4)


@given(st.tuples(whole, whole, whole))
def test_the_right_translation_gives_1(vector):
    fixed = brain_image()
    found = measure_similarity(fixed, np.roll(fixed, vector, (0, 1, 2)), constant_field(vector))
    assert (found.ssim, found.ncc, found.causes) == (pytest.approx(1), pytest.approx(1), ())
    if any(vector):
        wrong = measure_similarity(fixed, np.roll(fixed, vector, (0, 1, 2)), NOTHING)
        assert wrong.ssim < 0.9
        assert wrong.ncc < 0.9


def test_the_background_does_not_count():
    """Whatever lies so far outside the brain that no window from inside reaches it."""
    fixed, moving = brain_image(), brain_image()
    moving[:6] = moving[34:] = 200
    found = measure_similarity(fixed, moving, NOTHING)
    assert (found.ssim, found.ncc) == (pytest.approx(1), pytest.approx(1))
    assert np.corrcoef(fixed.ravel(), moving.ravel())[0, 1] < 0.5
    images = (torch.from_numpy(image)[None, None].double() for image in (fixed, moving))
    assert float(local_ssim(*images, float(np.ptp(fixed)))) < 0.8


def test_background_in_both_does_not_make_images_alike():
    fixed, other = brain_image(0), brain_image(1)
    inside = fixed > 0
    found = measure_similarity(fixed, other, NOTHING)
    assert found.ncc == pytest.approx(np.corrcoef(fixed[inside], other[inside])[0, 1])
    assert abs(found.ncc) < 0.1
    assert np.corrcoef(fixed.ravel(), other.ravel())[0, 1] > 0.8


def test_ncc_is_blind_for_brightness_and_contrast_and_ssim_is_not():
    fixed = brain_image()
    inside = fixed > 0
    moving = np.where(inside, 300 - fixed, 0).astype(np.float32)
    found = measure_similarity(fixed, moving, NOTHING)
    assert found.ncc == pytest.approx(-1)
    assert measure_similarity(fixed, (0.3 * fixed).astype(np.float32), NOTHING).ncc == pytest.approx(1)
    assert measure_similarity(fixed, (0.3 * fixed).astype(np.float32), NOTHING).ssim < 0.8


@pytest.mark.parametrize("brain", [slice(0, 1), slice(3, 90), slice(64, 100), slice(40, 41), slice(0, 100)])
def test_slabs_give_the_mean_over_the_whole(brain):
    shape = (100, 9, 8)
    fixed, moving = (brain_image(seed, shape, (brain, slice(2, 7), slice(None))) for seed in range(2))
    a, b = (torch.from_numpy(image)[None, None].double() for image in (fixed, moving))
    expected = float(local_ssim(a, b, float(np.ptp(fixed)), mask=a > 0))
    assert measure_similarity(fixed, moving, constant_field((0, 0, 0), shape)).ssim == pytest.approx(expected)


def test_a_constant_image_has_no_ncc_and_says_why():
    fixed, flat = brain_image(), np.where(brain_image() > 0, 80, 0).astype(np.float32)
    found = measure_similarity(flat, fixed, NOTHING)
    assert np.isnan(found.ncc)
    assert found.causes == ("the fixed image is constant inside the brain",)
    assert 0 < found.ssim < 1
    gone = measure_similarity(fixed, fixed, constant_field((100, 0, 0)))
    assert gone.causes == ("the warped moving image is constant inside the brain",)
    everywhere = np.full(SHAPE, 70.3, dtype=np.float32)
    both = measure_similarity(everywhere, everywhere, NOTHING)
    assert np.isnan(both.ncc)
    assert len(both.causes) == 2
    assert both.ssim == pytest.approx(1)


def test_rounding_of_the_interpolation_makes_no_ncc():
    everywhere = np.full(SHAPE, 70.3, dtype=np.float32)
    field = np.random.default_rng(3).uniform(-0.9, 0.9, (*SHAPE, 3)).astype(np.float32)
    fixed = brain_image()
    with plain_torch():  # whose interpolation rounds
        assert 0 < np.ptp(warp_image(everywhere, field)[fixed > 0]) < 1e-9
        assert np.isnan(measure_similarity(fixed, everywhere, field).ncc)


def test_nothing_above_0():
    with pytest.raises(ValueError, match="no voxel is above 0; expected a brain"):
        measure_similarity(-brain_image(), brain_image(), NOTHING)


def test_beyond_the_moving_image_is_background():
    assert (warp_image(brain_image() + 1, constant_field((100, 0, 0))) == 0).all()
