import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from lumirkit.registration.harmonise import Harmonisation
from lumirkit.registration.mind import mind
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.train.augment import Appearance, Augmentation, apply_appearance, change_contrast, draw_appearance
from lumirkit.train.views import make_view

RANGES = Augmentation(noise_std=(0.01, 0.05), blur_sigma_vox=(0.2, 1.0), gamma=(0.5, 2.0), inversion_probability=0.3)


@pytest.fixture
def image():
    torch.manual_seed(0)
    return 255 * torch.rand(1, 1, 12, 14, 10)


def drawn(ranges, count=2000):
    generator = np.random.default_rng(0)
    return [draw_appearance(ranges, generator) for _ in range(count)]


def test_draws_fill_their_ranges():
    appearances = drawn(RANGES)
    for name in ("noise_std", "blur_sigma_vox", "gamma"):
        values, (low, high) = [getattr(appearance, name) for appearance in appearances], getattr(RANGES, name)
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high >= max(values) > high - 0.02 * (high - low)
    assert sum(appearance.inverted for appearance in appearances) / len(appearances) == pytest.approx(0.3, abs=0.04)
    assert np.median([appearance.gamma for appearance in appearances]) == pytest.approx(1.0, abs=0.05)
    assert len({appearance.noise_seed for appearance in appearances}) > 1990


def test_nothing_is_done_by_default(image):
    assert drawn(Augmentation(), 1)[0].noise_std == 0
    torch.testing.assert_close(apply_appearance(image, Appearance()), image)
    torch.testing.assert_close(apply_appearance(image, drawn(Augmentation(), 1)[0]), image)


def test_gamma_and_inversion(image):
    torch.testing.assert_close(apply_appearance(image, Appearance(gamma=2.0)), image**2 / 255)
    torch.testing.assert_close(apply_appearance(image, Appearance(inverted=True)), 255 - image)


def test_blur_is_scipy_s(image):
    blurred = apply_appearance(image, Appearance(blur_sigma_vox=0.8))[0, 0].numpy()
    expected = gaussian_filter(image[0, 0].numpy(), 0.8, mode="nearest", radius=2)
    np.testing.assert_allclose(blurred, expected, atol=1e-3)


def test_noise_has_its_strength_and_is_drawn_again_the_same(image):
    noisy = Appearance(noise_std=0.1, noise_seed=7)
    noise = apply_appearance(image, noisy) - image
    assert float(noise.std()) == pytest.approx(25.5, rel=0.05)
    assert torch.equal(apply_appearance(image, noisy), apply_appearance(image, noisy))
    assert not torch.equal(apply_appearance(image, noisy), apply_appearance(image, Appearance(0.1, noise_seed=8)))


def test_contrasts_are_drawn_as_often_as_asked_and_every_second_one_falls():
    contrasts = [appearance.contrast for appearance in drawn(Augmentation(contrast_probability=0.4))]
    curves = [contrast for contrast in contrasts if contrast]
    assert len(curves) / len(contrasts) == pytest.approx(0.4, abs=0.04)
    falling = sum(list(curve) == sorted(curve, reverse=True) for curve in curves)
    assert falling / len(curves) == pytest.approx(0.5, abs=0.06)
    assert min(map(min, curves)) >= 0.05
    assert max(map(max, curves)) <= 1


def test_bent_contrasts_rise_and_fall_and_do_not_change_how_often_the_others_are_drawn():
    curves = [each.contrast for each in drawn(Augmentation(contrast_probability=0.3, bent_contrast_probability=0.4))]
    bent = [curve for curve in curves if curve and list(curve) not in (sorted(curve), sorted(curve, reverse=True))]
    assert len(bent) / len(curves) == pytest.approx(0.4, abs=0.04)
    assert sum(map(bool, curves)) / len(curves) == pytest.approx(0.7, abs=0.04)
    assert min(map(min, bent)) >= 0.05
    assert max(map(max, bent)) <= 1


def test_a_bent_contrast_makes_tissues_alike_that_a_harmonised_network_then_cannot_tell_apart():
    """A falling curve is undone by the harmonisation; one that gives two tissues the same intensity is not."""
    grid = torch.meshgrid(*[torch.linspace(-1, 1, 40)] * 3, indexing="ij")
    distance = torch.stack(grid).square().sum(0).sqrt()
    brain = torch.where(distance < 0.5, 204.0, torch.where(distance < 0.8, 102.0, torch.where(distance < 1, 51.0, 0.0)))
    brain = brain[None, None]
    harmonisation = Harmonisation()
    harmonisation.fit([brain / 255])

    def apart(knots):
        seen = harmonisation(change_contrast(brain, Appearance(contrast=knots)) / 255)
        return float((seen[brain == 204].mean() - seen[brain == 102].mean()).abs())

    assert apart((0.9, 0.8, 0.6, 0.5, 0.3, 0.2)) == pytest.approx(102 / 255, abs=0.05)
    assert apart((0.1, 0.2, 0.6, 0.8, 0.6, 0.3)) == pytest.approx(0, abs=0.02)


def test_a_contrast_is_the_curve_through_its_knots(image):
    knots = (0.9, 0.2, 0.6, 0.4)
    image[..., :3] = 0
    changed = change_contrast(image, Appearance(contrast=knots)).numpy()
    expected = 255 * np.interp(image.numpy(), np.linspace(0, 255, 4), knots)
    expected[..., :3] = 0
    np.testing.assert_allclose(changed, expected, atol=1e-3)
    assert torch.equal(change_contrast(image, Appearance()), image)


def test_a_view_changes_the_contrast_of_what_is_brain_before_it_goes_to_the_coarse_grid():
    image = torch.zeros(1, 1, 4, 4, 4)
    image[..., 1:] = 51  # a fifth of the range; with two knots, 1 and 0, it becomes four fifths
    view = make_view(image, SITRegConfig(resolution_vox=2), [Appearance(contrast=(1.0, 0.0))])
    assert view.seen[0, 0, 0, 0].tolist() == pytest.approx([102, 204])  # half of the outer block is background
    assert view.clean[0, 0, 0, 0].tolist() == pytest.approx([25.5, 51])
    harmonised = SITRegConfig(resolution_vox=2, input_transform="harmonised")
    view = make_view(image, harmonised, [Appearance(contrast=(1.0, 0.0))])
    assert view.seen[0, 0, 0, 0].tolist() == pytest.approx([204, 204])
    assert view.clean[0, 0, 0, 0].tolist() == pytest.approx([51, 51])


def test_mind_does_not_see_an_inversion(image):
    torch.testing.assert_close(mind(apply_appearance(image, Appearance(inverted=True))), mind(image))
    assert (mind(apply_appearance(image, Appearance(gamma=2.0))) - mind(image)).abs().max() > 0.05


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"noise_std": (0.2, 0.1)}, "expected the smaller number first"),
        ({"gamma": (0.0, 1.0)}, "expected positive exponents"),
        ({"inversion_probability": 1.5}, "inversion_probability: found 1.5; expected at most 1"),
        ({"contrast_probability": 1.5}, "contrast_probability: found 1.5; expected at most 1"),
        ({"contrast_probability": 0.5, "bent_contrast_probability": 0.6}, "expected at most 1 together"),
        ({"blur_sigma_vox": (-1.0, 1.0)}, "greater than or equal to 0"),
        ({"rotation": (0, 1)}, "Extra inputs"),
    ],
)
def test_impossible_ranges_are_refused(ranges, message):
    with pytest.raises(ValidationError, match=message):
        Augmentation(**ranges)
