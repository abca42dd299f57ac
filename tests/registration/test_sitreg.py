import pytest
import torch
from pydantic import ValidationError

from lumirkit.bench.memory import SavedBytes
from lumirkit.registration.ensemble import SITRegEnsemble
from lumirkit.registration.full_size import register_full_size
from lumirkit.registration.jacobian import jacobian_determinants
from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.network import register
from lumirkit.registration.precision import Precision
from lumirkit.registration.resolution import coarse_shape, coarsen_image
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.warp import compose

SMALL = {"feature_channels": (4, 6, 8), "update_channels": (4, 8, 8)}


def lively(config, seed=0, strength=0.3):
    """A network with random weights that moves things by voxels, unlike a fresh one."""
    torch.manual_seed(seed)
    network = SITReg(config)
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=strength)
    return network.eval()


def images(shape, seed=0):
    torch.manual_seed(seed)
    return 255 * torch.rand(1, 1, *shape), 255 * torch.rand(1, 1, *shape)


@pytest.mark.parametrize(("transform", "parameters"), [("intensity", 15_076_110), ("mind", 15_076_170)])
def test_parameter_count_is_the_published_one(transform, parameters):
    network = SITReg(SITRegConfig(input_transform=transform))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("transform", ["mind", "intensity"])
@pytest.mark.parametrize("shape", [(16, 24, 20), (17, 22, 19)])
def test_swapping_the_images_swaps_the_fields(transform, shape):
    network = lively(SITRegConfig(input_transform=transform, **SMALL))
    fixed, moving = images(shape)
    with torch.no_grad():
        there, back = register(network, fixed, moving)[-1], register(network, moving, fixed)[-1]
    assert there.forward_vox.abs().max() > 0.5
    torch.testing.assert_close(there.forward_vox, back.inverse_vox, atol=1e-5, rtol=0)
    torch.testing.assert_close(there.inverse_vox, back.forward_vox, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(24, 32, 28), (25, 31, 27)])
def test_fields_invert_each_other_and_do_not_fold(shape):
    network = lively(SITRegConfig(**SMALL), strength=0.05)
    with torch.no_grad():
        result = register(network, *images(shape))[-1]
    assert result.forward_vox.abs().max() > 0.2
    for outer, inner in ((result.forward_vox, result.inverse_vox), (result.inverse_vox, result.forward_vox)):
        error = compose(outer, inner).norm(dim=1)
        assert error.mean() < 0.01
        assert error.max() < 0.1
    assert min(float(determinant.min()) for determinant in jacobian_determinants(result.forward_vox)) > 0


@pytest.mark.parametrize(
    ("channels", "shape"), [((3,), (9, 8, 7)), ((5, 7), (10, 11, 12)), ((4, 4, 4, 4, 4), (20, 17, 9))]
)
def test_any_number_of_levels_and_channels(channels, shape):
    network = lively(SITRegConfig(feature_channels=channels, update_channels=channels))
    with torch.no_grad():
        result = register(network, *images(shape))[-1]
    assert result.forward_vox.shape == (1, 3, *shape)
    assert torch.isfinite(result.forward_vox).all()
    assert result.forward_vox.abs().max() > 0


def test_every_level_is_returned_coarse_to_fine():
    network = lively(SITRegConfig(**SMALL))
    fixed, moving = images((16, 16, 16))
    with torch.no_grad():
        every, last = register(network, fixed, moving, every_level=True), register(network, fixed, moving)
    assert len(every) == 3
    assert len(last) == 1
    torch.testing.assert_close(every[-1].forward_vox, last[0].forward_vox)
    assert not torch.equal(every[0].forward_vox, every[1].forward_vox)


def test_equal_images_are_left_alone():
    """With a = b both halves get the same update, so phi o psi^-1 is the identity whatever the weights."""
    fixed, _ = images((16, 18, 20))
    with torch.no_grad():
        result = register(lively(SITRegConfig(**SMALL)), fixed, fixed)[-1]
    assert result.forward_vox.abs().max() < 1e-4


def test_control_points_obey_the_bound():
    network = lively(SITRegConfig(**SMALL), strength=100.0)
    stacked = torch.cat(images((16, 16, 16)))
    with torch.no_grad():
        for level, features in enumerate(network.extract(stacked)):
            control_points = network.control_points(level, features, None)
            assert control_points.shape[2:] == coarse_shape((16, 16, 16), 2**level)
            assert control_points.abs().max() <= network.updates[level].bound


def test_every_parameter_gets_a_gradient():
    network = lively(SITRegConfig(**SMALL))
    result = register(network, *images((16, 16, 16)))[-1]
    (result.forward_vox.square().mean() + result.inverse_vox.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradient_against_finite_differences():
    network = lively(SITRegConfig(feature_channels=(4, 4), update_channels=(4, 4))).double()
    fixed, moving = (image.double() for image in images((8, 8, 8)))
    weight = network.updates[1].head.weight

    def objective():
        return register(network, fixed, moving)[-1].forward_vox.square().mean()

    objective().backward()
    direction = torch.randn_like(weight)
    step = 1e-5
    with torch.no_grad():
        weight += step * direction
        above = objective()
        weight -= 2 * step * direction
        below = objective()
    assert float((above - below) / (2 * step)) == pytest.approx(float((weight.grad * direction).sum()), rel=1e-3)


@pytest.mark.parametrize("shape", [(24, 20, 28), (25, 19, 30)])
def test_the_kernels_give_the_fields_of_plain_torch_in_float64(shape):
    network, pair = lively(SITRegConfig(**SMALL), strength=0.1), images(shape)
    with torch.no_grad():
        kernels = register(network, *pair)[-1]
        with plain_torch():
            exact = register(network.double(), *(image.double() for image in pair))[-1]
    distance = (kernels.forward_vox - exact.forward_vox).norm(dim=1)
    assert exact.forward_vox.abs().max() > 0.3
    assert distance.max() < 1e-3
    assert distance.mean() < 1e-4


def test_bfloat16_convolutions_stay_close_and_symmetric():
    network, pair = lively(SITRegConfig(**SMALL), strength=0.1), images((24, 20, 28))
    with torch.no_grad():
        exact = register(network, *pair)[-1]
        network.precision = Precision.BFLOAT16
        there, back = register(network, *pair)[-1], register(network, *pair[::-1])[-1]
        with plain_torch():
            plain = register(network, *pair)[-1]
    assert there.forward_vox.dtype == torch.float32
    assert 0 < (there.forward_vox - exact.forward_vox).norm(dim=1).mean() < 0.02
    assert (plain.forward_vox - exact.forward_vox).norm(dim=1).mean() < 0.02
    assert torch.equal(there.forward_vox, back.inverse_vox)


@pytest.mark.parametrize("precision", Precision)
def test_recomputed_levels_give_the_same_gradients(precision):
    network = lively(SITRegConfig(**SMALL))
    network.precision = precision
    pair = images((16, 20, 18))
    gradients, kept = [], []
    for network.recompute in (False, True):
        with SavedBytes() as saved:
            result = register(network, *pair)[-1]
            loss = result.forward_vox.square().mean() + result.inverse_vox.square().mean()
        kept.append(saved.bytes)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    assert kept[1] < 0.5 * kept[0]
    for once, again in zip(*gradients, strict=True):
        assert torch.equal(once, again)


def test_an_ensemble_of_one_is_the_model_itself():
    network, pair = lively(SITRegConfig(**SMALL)), images((16, 16, 16))
    with torch.no_grad():
        alone, together = register(network, *pair)[-1], register(SITRegEnsemble([network]), *pair)[-1]
    assert torch.equal(alone.forward_vox, together.forward_vox)


@pytest.mark.parametrize("level", range(len(SMALL["feature_channels"])))
def test_an_ensemble_averages_control_points(level):
    members = [lively(SITRegConfig(**SMALL), seed) for seed in range(3)]
    ensemble, stacked = SITRegEnsemble(members), torch.cat(images((16, 16, 16)))
    with torch.no_grad():
        together = ensemble.control_points(level, ensemble.extract(stacked)[level], None)
        alone = [member.control_points(level, member.extract(stacked)[level], None) for member in members]
    torch.testing.assert_close(together, sum(alone) / 3)


def test_an_ensemble_refuses_different_members():
    with pytest.raises(ValueError, match="same network configuration"):
        SITRegEnsemble([SITReg(SITRegConfig(**SMALL)), SITReg(SITRegConfig(input_transform="intensity", **SMALL))])
    with pytest.raises(ValueError, match="at least one"):
        SITRegEnsemble([])


def test_configuration_is_checked():
    with pytest.raises(ValidationError, match="one entry a level"):
        SITRegConfig(feature_channels=(4, 4), update_channels=(4,))
    with pytest.raises(ValidationError, match="extra"):
        SITRegConfig(depth=3)


def test_a_network_that_sees_the_parts_of_a_voxel_can_do_what_one_that_sees_their_mean_does():
    """A first layer that gives every part an eighth of the weight sees the mean again."""
    of_means = lively(SITRegConfig(input_transform="intensity", resolution_vox=2, **SMALL))
    of_parts = SITReg(SITRegConfig(input_transform="intensity", resolution_vox=2, seen_vox=1, **SMALL))
    state = of_means.state_dict()
    state["extractor.stem.weight"] = state["extractor.stem.weight"].expand(-1, -1, 2, 2, 2) / 8
    of_parts.load_state_dict(state)
    fixed, moving = images((20, 26, 24))
    with torch.no_grad():
        by_means, by_parts = (register_full_size(network, fixed, moving) for network in (of_means, of_parts))
    assert by_means.forward_vox.abs().max() > 0.5
    torch.testing.assert_close(by_parts.forward_vox, by_means.forward_vox, atol=1e-4, rtol=0)


@pytest.mark.parametrize("transform", ["mind", "intensity"])
@pytest.mark.parametrize("shape", [(16, 24, 20), (17, 22, 19)])
def test_fields_of_a_network_that_sees_parts_live_on_its_own_grid(transform, shape):
    network = lively(SITRegConfig(input_transform=transform, resolution_vox=2, seen_vox=1, **SMALL))
    fixed, moving = images(shape)
    with torch.no_grad():
        there, back = register(network, fixed, moving)[-1], register(network, moving, fixed)[-1]
        full = register_full_size(network, fixed, moving)
    assert there.forward_vox.shape[2:] == coarse_shape(shape, 2)
    assert there.forward_vox.abs().max() > 0.1
    torch.testing.assert_close(there.forward_vox, back.inverse_vox, atol=1e-5, rtol=0)
    assert full.forward_vox.shape[2:] == shape


def test_a_network_that_sees_parts_sees_what_their_mean_hides():
    network = lively(SITRegConfig(input_transform="intensity", resolution_vox=2, seen_vox=1, **SMALL))
    fixed, moving = images((16, 16, 16))
    other = moving.view(1, 1, 8, 2, 16, 16).flip(3).view(moving.shape)  # the two parts of each voxel exchanged
    torch.testing.assert_close(coarsen_image(other, 2), coarsen_image(moving, 2))
    with torch.no_grad():
        fields = [register(network, fixed, image)[-1].forward_vox for image in (moving, other)]
    assert not torch.allclose(*fields, atol=1e-2)


def test_parts_of_a_voxel_are_whole():
    with pytest.raises(ValidationError, match="seen_vox: found 2; expected a divisor of resolution_vox=3"):
        SITRegConfig(resolution_vox=3, seen_vox=2)
