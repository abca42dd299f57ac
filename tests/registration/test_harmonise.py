"""Contrast harmonisation on phantoms of three tissues, whose intensities say everything or all but their order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.ndimage import binary_erosion

from lumirkit.registration.architecture import make_network
from lumirkit.registration.ensemble import make_ensemble
from lumirkit.registration.harmonise import Harmonisation, _conditional_mean
from lumirkit.registration.network import register
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.weights import WeightsCard, load_weights, save_weights

SHAPE = (48, 56, 44)
CONFIG = SITRegConfig(input_transform="harmonised", feature_channels=(4, 4), update_channels=(4, 4))


def brain(seed=0, shift=(0, 0, 0)):
    """An ellipsoid, dark at its rim and in its middle and bright between, with texture; 0…1, background 0."""
    axes = [np.arange(size) - (size - 1) / 2 - offset for size, offset in zip(SHAPE, shift, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / 18) ** 2 + (y / 21) ** 2 + (z / 16) ** 2)
    texture = np.random.default_rng(seed).normal(scale=0.02, size=SHAPE)
    bump = np.exp(-(((radius - 0.55) / 0.25) ** 2))
    image = np.where(radius < 1, 0.2 + 0.6 * bump + np.clip(texture, -0.06, 0.06), 0)
    return torch.from_numpy(image).float()[None, None]


@pytest.fixture(scope="module")
def harmonisation():
    fitted = Harmonisation()
    fitted.fit(brain(seed) for seed in range(3))
    return fitted


def inside(image):
    return image[image > 0].numpy()


def recoloured(image, curve):
    return torch.where(image > 0, curve(image), torch.zeros(()))


def test_a_brain_gets_the_reference_s_mean_and_spread_and_keeps_its_background(harmonisation):
    image = recoloured(brain(7), lambda x: x**3 * 40)
    harmonised = harmonisation(image)
    assert torch.equal(harmonised == 0, image == 0)
    assert inside(harmonised).mean() == pytest.approx(inside(brain(8)).mean(), abs=0.01)
    assert inside(harmonised).std() == pytest.approx(inside(brain(8)).std(), abs=0.01)


def test_what_has_the_reference_s_contrast_stays_nearly_as_it_is(harmonisation):
    assert np.abs(inside(harmonisation(brain(7))) - inside(brain(7))).max() < 0.1


@pytest.mark.parametrize("curve", [torch.exp, lambda x: 300 * x, lambda x: x**0.5], ids=["exp", "scale", "root"])
def test_a_rising_change_of_contrast_is_not_seen(harmonisation, curve):
    torch.testing.assert_close(harmonisation(recoloured(brain(7), curve)), harmonisation(brain(7)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("curve", [lambda x: 1 - x, lambda x: 1 / x], ids=["negative", "inverse"])
def test_nor_is_a_falling_one(harmonisation, curve):
    torch.testing.assert_close(harmonisation(recoloured(brain(7), curve)), harmonisation(brain(7)), atol=2e-2, rtol=0)


@given(gain=st.floats(-3, 3).filter(lambda x: abs(x) > 0.01), offset=st.floats(4, 300))
@settings(max_examples=20, deadline=None)
def test_no_affine_change_is_seen(harmonisation, gain, offset):
    changed = recoloured(brain(7), lambda x: gain * x + offset)
    assert np.corrcoef(inside(harmonisation(changed)), inside(brain(7)))[0, 1] > 0.98


def test_a_contrast_that_no_order_describes_is_recognised(harmonisation):
    """The darkest and the brightest tissue exchange places with the middle one."""
    changed = recoloured(brain(7), lambda x: (x - 0.5).abs() + 0.01)
    unrelated = abs(np.corrcoef(inside(changed), inside(brain(7)))[0, 1])
    assert np.corrcoef(inside(harmonisation(changed)), inside(brain(7)))[0, 1] > unrelated + 0.2


def test_a_rim_as_dark_as_another_contrast_s_bright_tissue_is_not_taken_for_it(harmonisation):
    """As dura is in T2w images, where white matter is dark; in T1w images the rim is dark and white matter bright."""
    falling, solid = recoloured(brain(7), lambda x: 1 - x), torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    solid[0, 0] = torch.from_numpy(binary_erosion(falling[0, 0].numpy() > 0, np.ones((3, 3, 3))))
    rim = (falling > 0) & ~solid
    fringed = torch.where(rim, 0.9 * falling[solid].min(), falling)
    torch.testing.assert_close(harmonisation(fringed)[solid], harmonisation(falling)[solid])
    assert harmonisation(fringed)[rim].max() < harmonisation(falling)[solid].mean()


def test_the_rim_is_as_thick_as_it_is_made():
    solid = torch.zeros(1, 1, 30, 30, 30)
    solid[..., 5:25, 5:25, 5:25] = torch.linspace(0.2, 0.8, 20)
    for rim_vox in (1, 2):
        fitted = Harmonisation(rim_vox)
        fitted.fit([solid])
        core = solid[..., 5 + rim_vox : 25 - rim_vox, 5 + rim_vox : 25 - rim_vox, 5 + rim_vox : 25 - rim_vox]
        assert fitted.moments[1].tolist() == pytest.approx([core.mean().item(), core.std(correction=0).item()])


def test_where_the_brain_lies_in_the_grid_is_not_seen(harmonisation):
    image = brain(7)
    moved = torch.roll(image, (3, -2, 1), dims=(2, 3, 4))
    back = torch.roll(harmonisation(moved), (-3, 2, -1), dims=(2, 3, 4))
    assert torch.equal(back, harmonisation(image))


def test_each_image_is_harmonised_by_itself(harmonisation):
    first, second = brain(7), recoloured(brain(8), lambda x: 1 - x)
    both = harmonisation(torch.cat([first, second]))
    assert torch.equal(both, torch.cat([harmonisation(first), harmonisation(second)]))


def test_an_image_that_shows_nothing_and_one_that_shows_one_value_stay_finite(harmonisation):
    nothing, flat = torch.zeros(1, 1, *SHAPE), (brain() > 0).float()
    assert torch.equal(harmonisation(nothing), nothing)
    assert harmonisation(flat).isfinite().all()
    rim_and_rest = harmonisation(flat).unique()
    assert len(rim_and_rest) == 3, "background, rim and rest"


def test_intensities_that_lie_at_no_known_place_are_taken_for_the_reference_s_mean_not_for_black():
    curve = _conditional_mean(torch.tensor([0.1, 0.2]), torch.tensor([0.4, 0.6]))
    assert curve.min() == pytest.approx(0.4, abs=1e-3)
    assert curve[-1] == pytest.approx(0.5)


def test_without_a_reference_nothing_is_harmonised():
    with pytest.raises(ValueError, match="no reference to harmonise images with; train it, or load its weights"):
        Harmonisation()(brain())
    with pytest.raises(ValueError, match="shows no brain"):
        Harmonisation().fit([torch.zeros(1, 1, *SHAPE)])
    with pytest.raises(ValueError, match="share no place"):
        corners = torch.zeros(1, 1, *SHAPE)
        corners[..., :6, :6, :6] = corners[..., -6:, -6:, -6:] = 1
        Harmonisation().fit([corners, brain()])


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = make_network(CONFIG)
    assert network.harmonisation is not None
    network.harmonisation.fit([brain(0), brain(1)])
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight)
    return network


def test_a_network_registers_a_contrast_as_it_does_the_reference_s(network):
    fixed, moving = 255 * brain(2), 255 * brain(3, shift=(2, 1, 0))
    with torch.no_grad():
        (plain,) = register(network, fixed, moving)
        (other,) = register(network, fixed, recoloured(moving, lambda x: 300 / x))
        (exchanged,) = register(network, moving, fixed)
    assert plain.forward_vox.abs().max() > 0.05
    assert (plain.forward_vox - other.forward_vox).abs().max() < 0.1 * plain.forward_vox.abs().max()
    assert torch.equal(exchanged.forward_vox, plain.inverse_vox)


def test_weights_carry_the_reference(tmp_path, network):
    card = WeightsCard(network=CONFIG, recipe={}, seed=0, steps=0)
    save_weights(tmp_path / "a.safetensors", network, card)
    assert load_file(tmp_path / "a.safetensors")["harmonisation.moments"].min() > 0
    loaded, _ = load_weights(tmp_path / "a.safetensors")
    images = 255 * brain(5), 255 * brain(6)
    with torch.no_grad():
        assert torch.equal(register(loaded, *images)[0].forward_vox, register(network, *images)[0].forward_vox)


def test_an_ensemble_harmonises_as_its_members_do(network):
    images = 255 * brain(2), 255 * brain(3, shift=(2, 1, 0))
    with torch.no_grad():
        (alone,), (both,) = register(network, *images), register(make_ensemble([network, network]), *images)
    torch.testing.assert_close(both.forward_vox, alone.forward_vox)
    other = make_network(CONFIG)
    with pytest.raises(ValueError, match="harmonise alike; expected the same training images"):
        make_ensemble([network, other])
