"""The second look at a contrast, on phantoms of three tissues."""

import pytest
import torch

from lumirkit.registration.architecture import make_network
from lumirkit.registration.ensemble import make_ensemble
from lumirkit.registration.full_size import register_full_size
from lumirkit.registration.network import Registration
from lumirkit.registration.refinement.refine import refined_full_size
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.second_look import LOOKS, registered_in_one_contrast
from lumirkit.registration.sitreg import SITRegConfig

SHAPE = (44, 52, 40)
T1W = (40.0, 150.0, 210.0)  # fluid in the middle, then two tissues
FLAIR = (30.0, 200.0, 190.0)  # the two tissues are hardly told apart


def brain(seed, shells=T1W):
    """An ellipsoid of three shells, given from the middle to the rim, with noise; background 0."""
    axes = [torch.arange(size) - (size - 1) / 2 for size in SHAPE]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    radius = ((x / 18) ** 2 + (y / 21) ** 2 + (z / 16) ** 2).sqrt()
    middle, inner, outer = shells
    image = torch.where(radius < 0.5, middle, torch.where(radius < 0.75, inner, outer))
    noise = 6 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    return ((image + noise).clamp(1, 255) * (radius < 1))[None, None]


@pytest.fixture(scope="module", params=[{}, {"resolution_vox": 2, "seen_vox": 1}], ids=["one grid", "two grids"])
def network(request):
    torch.manual_seed(0)
    channels = {"feature_channels": (4, 4), "update_channels": (4, 4)}
    made = make_network(SITRegConfig(input_transform="harmonised", **channels, **request.param))
    made.fit_harmonisation([brain(seed) for seed in range(3)])
    return made.eval().requires_grad_(False)


def seen(network, fixed, moving):
    """The images of each registration, if the images lie on each other from the beginning."""
    calls, grid = [], coarse_shape(SHAPE, network.config.resolution_vox)

    def register(*images):
        calls.append(images)
        return Registration(*(torch.zeros(1, 3, *grid) for _ in range(2)))

    registered_in_one_contrast(network, fixed, moving, register, lambda found: found)
    return calls


@pytest.fixture
def pair():
    return brain(7), brain(8, FLAIR)


def test_images_of_one_contrast_are_registered_once(network):
    assert len(seen(network, brain(7), brain(8))) == 1
    assert len(seen(network, brain(7), 0.5 * brain(8))) == 1


def test_the_image_that_is_less_like_the_mean_brain_gets_the_mean_of_both_contrasts(network, pair):
    fixed, moving = pair
    first, *later = seen(network, fixed, moving)
    assert len(later) == LOOKS
    from_other = 255 * network.harmonisation.carried_from(moving / 255, first[0] / 255)
    for images in later:
        assert torch.equal(images[0], first[0])
        torch.testing.assert_close(images[1], (first[1] + from_other) / 2)


def test_an_image_gets_the_contrast_of_the_one_that_lies_on_it(network):
    """The tissues lie elsewhere than in the mean brain, which takes fluid for tissue there."""
    truth, image = brain(7, (150.0, 210.0, 40.0)), brain(8, (200.0, 120.0, 30.0))
    inside = -torch.nn.functional.max_pool3d(-(truth > 0).float(), 5, 1, 2) > 0  # without the rim, a part of its own

    def correlation(harmonised):
        return float(torch.corrcoef(torch.stack([harmonised[inside], truth[inside]]))[0, 1])

    assert correlation(network.harmonisation(image / 255)) < 0.5
    assert correlation(network.harmonisation.carried_from(image / 255, truth / 255)) > 0.95


def test_likeness_tells_the_contrast_of_the_mean_brain(network):
    likeness = network.harmonisation.likeness
    assert likeness(brain(7)) > 0.9 > likeness(brain(8, FLAIR)) > 0 > likeness(brain(9, (210.0, 150.0, 40.0)))


def test_exchanged_images_are_seen_as_exchanged(network, pair):
    fixed, moving = pair
    for images, exchanged in zip(seen(network, fixed, moving), seen(network, moving, fixed), strict=True):
        assert torch.equal(images[0], exchanged[1])
        assert torch.equal(images[1], exchanged[0])


def test_exchanged_images_have_exchanged_fields(network, pair):
    fixed, moving = pair
    one, other = register_full_size(network, fixed, moving), register_full_size(network, moving, fixed)
    torch.testing.assert_close(one.forward_vox, other.inverse_vox, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.inverse_vox, other.forward_vox, atol=1e-4, rtol=0)


def test_a_refinement_begins_with_what_the_looks_found(network, pair):
    refined = refined_full_size(make_ensemble([network]), *pair, Refinement(steps=1))
    assert not refined.one_contrast
    torch.testing.assert_close(
        refined.registration.forward_vox, register_full_size(network, *pair).forward_vox, atol=1e-5, rtol=0
    )


def test_a_network_that_sees_intensities_registers_once(pair):
    made = make_network(SITRegConfig(input_transform="intensity", feature_channels=(4, 4), update_channels=(4, 4)))
    assert len(seen(made, *pair)) == 1


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_images_of_one_value_stay_finite(value, network):
    flat = value * (brain(7) > 0)
    for images in seen(network, flat, brain(8)):
        assert all(torch.isfinite(image).all() for image in images)
