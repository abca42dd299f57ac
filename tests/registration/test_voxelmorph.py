from math import prod

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lumirkit.bench.memory import SavedBytes
from lumirkit.registration.architecture import NetworkConfig, make_network
from lumirkit.registration.ensemble import VoxelMorphEnsemble, make_ensemble
from lumirkit.registration.exponential import exponential
from lumirkit.registration.jacobian import jacobian_determinants
from lumirkit.registration.network import register
from lumirkit.registration.precision import Precision
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.spline_noise import spline_noise
from lumirkit.registration.voxelmorph import VoxelMorph, VoxelMorphConfig
from lumirkit.registration.warp import compose, sample
from lumirkit.registration.weights import WeightsError, load_ensemble, load_weights

SMALL = {"encoder_channels": (4, 6, 8), "decoder_channels": (8, 6, 4), "head_channels": (4,)}
BOTH_KINDS = pytest.mark.parametrize("diffeomorphic", [False, True])


def lively(seed=0, strength=0.1, **settings):
    """A network with random weights that moves things by voxels, unlike a fresh one."""
    torch.manual_seed(seed)
    network = VoxelMorph(VoxelMorphConfig(**{**SMALL, **settings}))
    torch.nn.init.normal_(network.head[-1].weight, std=strength)
    return network.eval()


def images(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(127 + 60 * spline_noise(1, 1, 6, shape, generator) for _ in range(2))


def both_fields(registration):
    return torch.cat([registration.forward_vox, registration.inverse_vox])


@pytest.mark.parametrize(
    ("encoder", "decoder", "head", "expected"),
    [
        # 27 in out + out: 2-32-32-32-32, then 32-32, three times 64-32, 64-32-16, and 16-3.
        ((32,) * 4, (32,) * 4, (32, 16), 1_760 + 3 * 27_680 + 27_680 + 3 * 55_328 + 55_328 + 13_840 + 1_299),
        # 2-16-32-32-32, then 32-32, three times 64-32, 48-32-16-16, and 16-3: the public code's own default.
        ((16, 32, 32, 32), (32,) * 4, (32, 16, 16), 327_331),
        # 2-5, 5-7, 12-3: nothing between the U-Net and the field.
        ((5,), (7,), (), 275 + 952 + 975),
    ],
)
def test_parameters_counted_by_hand(encoder, decoder, head, expected):
    channels = {"encoder_channels": encoder, "decoder_channels": decoder, "head_channels": head}
    network = VoxelMorph(VoxelMorphConfig(input_transform="intensity", **channels))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_parts_have_the_names_that_freezing_goes_by():
    counts = {}
    for name, parameter in VoxelMorph(VoxelMorphConfig(**SMALL)).named_parameters():
        counts.setdefault(name.partition(".")[0], []).append(prod(parameter.shape[:1]))
    assert counts == {"encoder": [4, 4, 6, 6, 8, 8], "decoder": [8, 8, 6, 6, 4, 4], "head": [4, 4, 3, 3]}


@BOTH_KINDS
@pytest.mark.parametrize("transform", ["mind", "intensity"])
def test_a_fresh_network_is_the_identity_but_not_stuck(diffeomorphic, transform):
    torch.manual_seed(0)
    network = VoxelMorph(VoxelMorphConfig(input_transform=transform, diffeomorphic=diffeomorphic, **SMALL))
    (result,) = register(network, *images((16, 20, 18)))
    assert 0 < both_fields(result).abs().max() < 1e-3


@BOTH_KINDS
@pytest.mark.parametrize("shape", [(16, 24, 20), (17, 22, 19), (9, 5, 3), (2, 2, 2)])
def test_any_size(diffeomorphic, shape):
    with torch.no_grad():
        (result,) = register(
            lively(input_transform="intensity", diffeomorphic=diffeomorphic), *images(shape), every_level=True
        )
    assert result.forward_vox.shape == result.inverse_vox.shape == (1, 3, *shape)
    assert torch.isfinite(both_fields(result)).all()
    assert result.forward_vox.abs().max() > 1e-4


def test_what_a_voxel_gets_does_not_depend_on_rounded_up_sizes():
    """Far from the end at which an odd size is filled up, the field is that of the even size."""
    network, (fixed, moving) = lively(encoder_channels=(4,), decoder_channels=(4,)), images((24, 12, 12))
    network.config = network.config.model_copy(update={"input_transform": "intensity"})
    network.encoder[0][0] = type(network.encoder[0][0])(2, 4, kernel_size=3, padding=1)
    with torch.no_grad():
        even, odd = register(network, fixed, moving)[-1], register(network, fixed[:, :, :-1], moving[:, :, :-1])[-1]
    torch.testing.assert_close(odd.forward_vox[:, :, :12], even.forward_vox[:, :, :12], atol=1e-5, rtol=0)
    assert not torch.allclose(odd.forward_vox[:, :, 20:], even.forward_vox[:, :, 20:23], atol=1e-5)


@BOTH_KINDS
def test_swapping_the_images_swaps_the_fields(diffeomorphic):
    network, (fixed, moving) = lively(diffeomorphic=diffeomorphic), images((16, 20, 18))
    with torch.no_grad():
        there, back = register(network, fixed, moving)[-1], register(network, moving, fixed)[-1]
    torch.testing.assert_close(there.inverse_vox, back.forward_vox, atol=1e-5, rtol=0)
    torch.testing.assert_close(there.forward_vox, back.inverse_vox, atol=1e-5, rtol=0)
    assert (there.forward_vox - there.inverse_vox).abs().max() > 0.01


def test_velocities_between_equal_images_are_zero():
    fixed, _ = images((16, 20, 18))
    with torch.no_grad():
        result = register(lively(diffeomorphic=True), fixed, fixed)[-1]
    assert both_fields(result).abs().max() < 1e-6


def test_velocities_of_both_directions_are_opposite_and_are_followed():
    network, (fixed, moving) = lively(strength=0.3, diffeomorphic=True), images((16, 20, 18))
    with torch.no_grad():
        result = register(network, fixed, moving)[-1]
        velocity, opposite = network.predict(torch.cat([moving, fixed])).chunk(2)
    assert velocity.abs().max() > 0.3
    assert torch.equal(opposite, -velocity)
    torch.testing.assert_close(result.forward_vox, exponential(velocity))
    torch.testing.assert_close(result.inverse_vox, exponential(-velocity))


def test_diffeomorphic_fields_invert_each_other_and_do_not_fold():
    with torch.no_grad():
        result = register(lively(strength=0.3, diffeomorphic=True), *images((28, 32, 30)))[-1]
        plain = register(lively(strength=0.3), *images((28, 32, 30)))[-1]
    inside = (..., *[slice(4, -4)] * 3)
    size = result.forward_vox[inside].norm(dim=1)
    assert size.max() > 0.4
    for outer, inner in ((result.forward_vox, result.inverse_vox), (result.inverse_vox, result.forward_vox)):
        error = compose(outer, inner)[inside].norm(dim=1)
        assert error.mean() < 0.05 * size.mean()
        assert error.max() < 0.2 * size.max()
    assert min(float(determinant.min()) for determinant in jacobian_determinants(result.forward_vox)) > 0
    loose = compose(plain.forward_vox, plain.inverse_vox)[inside].norm(dim=1)
    assert loose.mean() > 0.3 * plain.forward_vox[inside].norm(dim=1).mean()


@BOTH_KINDS
def test_every_parameter_gets_a_gradient(diffeomorphic):
    network = lively(diffeomorphic=diffeomorphic)
    both_fields(register(network, *images((16, 20, 18)))[-1]).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@BOTH_KINDS
@pytest.mark.parametrize("precision", Precision)
def test_recomputed_levels_give_the_same_gradients_in_less_memory(diffeomorphic, precision):
    network, pair = lively(diffeomorphic=diffeomorphic), images((16, 20, 18))
    network.precision = precision
    gradients, kept = [], []
    for network.recompute in (False, True):
        with SavedBytes() as saved:
            loss = both_fields(register(network, *pair)[-1]).square().mean()
        kept.append(saved.bytes)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    assert kept[1] < 0.6 * kept[0]
    for once, again in zip(*gradients, strict=True):
        assert torch.equal(once, again)


@BOTH_KINDS
def test_bfloat16_convolutions_stay_close(diffeomorphic):
    network, pair = lively(diffeomorphic=diffeomorphic), images((16, 20, 18))
    with torch.no_grad():
        exact = both_fields(register(network, *pair)[-1])
        network.precision = Precision.BFLOAT16
        close = both_fields(register(network, *pair)[-1])
    assert close.dtype == torch.float32
    assert 0 < (close - exact).norm(dim=1).mean() < 0.05 * exact.norm(dim=1).mean()


@BOTH_KINDS
def test_it_learns_the_translation_of_a_blob(diffeomorphic):
    grid = torch.meshgrid(*(torch.arange(float(size)) for size in (16, 20, 12)), indexing="ij")

    def blob(*centre):
        squared = sum(((axis - c) / 4) ** 2 for axis, c in zip(grid, centre, strict=True))
        return 255 * torch.exp(-squared)[None, None]

    fixed, moving = blob(8, 10, 6), blob(9.5, 9, 6)
    torch.manual_seed(0)
    network = VoxelMorph(VoxelMorphConfig(input_transform="intensity", diffeomorphic=diffeomorphic, **SMALL))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        found = register(network, fixed, moving)[-1]
        errors = sample(moving, found.forward_vox) - fixed, sample(fixed, found.inverse_vox) - moving
        sum((error / 255).square().mean() for error in errors).backward()
        optimizer.step()
    at_blob = found.forward_vox[0, :, 7:10, 9:12, 5:8].mean(dim=(1, 2, 3))
    torch.testing.assert_close(at_blob, torch.tensor([1.5, -1.0, 0.0]), atol=0.4, rtol=0)
    left = sum(error.square().mean() for error in errors).item() / 2
    assert left < 0.2 * (moving - fixed).square().mean().item()


@BOTH_KINDS
def test_an_ensemble_averages_what_its_members_predict(diffeomorphic):
    members, pair = [lively(seed, diffeomorphic=diffeomorphic) for seed in range(2)], images((16, 20, 18))
    ensemble, stacked = make_ensemble(members), torch.cat(pair[::-1])
    with torch.no_grad():
        mean = sum(member.predict(stacked) for member in members) / 2
        together = both_fields(register(ensemble, *pair)[-1])
        alone, single = register(members[0], *pair)[-1], register(make_ensemble(members[:1]), *pair)[-1]
    assert isinstance(ensemble, VoxelMorphEnsemble)
    torch.testing.assert_close(together, exponential(mean) if diffeomorphic else mean)
    assert torch.equal(both_fields(alone), both_fields(single))
    assert (together - both_fields(alone)).abs().max() > 0.01


def test_an_ensemble_refuses_other_architectures_and_kinds():
    for other in (SITReg(SITRegConfig()), lively(diffeomorphic=True)):
        with pytest.raises(ValueError, match="same network configuration"):
            make_ensemble([lively(), other])
        with pytest.raises(ValueError, match="same network configuration"):
            make_ensemble([other, lively()])
    with pytest.raises(ValueError, match="at least one"):
        make_ensemble([])


@BOTH_KINDS
def test_weights_come_back_with_their_card(make_weights, diffeomorphic):
    config = VoxelMorphConfig(diffeomorphic=diffeomorphic, **SMALL)
    path = make_weights(seed=5, network=config)
    network, card = load_weights(path)
    assert card.network == network.config == config
    assert all(torch.equal(tensor, load_file(path)[name]) for name, tensor in network.state_dict().items())
    ensemble, _ = load_ensemble([path, make_weights(seed=6, network=config)])
    assert isinstance(ensemble, VoxelMorphEnsemble)
    with pytest.raises(WeightsError, match=r"architecture is 'sitreg', there 'voxelmorph'"):
        load_ensemble([path, make_weights()])


def test_a_card_from_before_architectures_had_names_is_that_of_sitreg(make_weights):
    path = make_weights(seed=3)
    with safe_open(path, "pt") as file:
        card = file.metadata()["lumirkit"]
    assert card.count('"architecture":"sitreg",') == 1
    old = path.with_name("old.safetensors")
    save_file(load_file(path), old, metadata={"lumirkit": card.replace('"architecture":"sitreg",', "")})
    (network, old_card), (_, new_card) = load_weights(old), load_weights(path)
    assert isinstance(network, SITReg)
    assert old_card == new_card


def test_configurations_are_told_apart_and_checked():
    read = TypeAdapter(NetworkConfig).validate_python
    assert read({}) == SITRegConfig()
    assert read({"architecture": "sitreg", "resolution_vox": 2}) == SITRegConfig(resolution_vox=2)
    unet = read({"architecture": "voxelmorph", **SMALL})
    assert unet == read(unet) == VoxelMorphConfig(**SMALL)
    assert isinstance(make_network(unet), VoxelMorph)
    with pytest.raises(ValidationError, match=r"architecture: found 'unet'; expected one of sitreg, voxelmorph"):
        read({"architecture": "unet"})
    with pytest.raises(ValidationError, match="as many up as down"):
        read({"architecture": "voxelmorph", "encoder_channels": [4, 4, 4]})
    with pytest.raises(ValidationError, match=r"feature_channels\n.*Extra"):
        read({"architecture": "voxelmorph", "feature_channels": [4]})
    with pytest.raises(ValidationError, match="valid dictionary"):
        read(3)
