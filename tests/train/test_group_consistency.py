"""Group consistency: its value on known fields, and its exact gradient in the memory of one pair."""

import pytest
import torch

from lumirkit.registration.network import Registration, register
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.augment import Appearance
from lumirkit.train.gradients import triplet_step
from lumirkit.train.group_consistency import CYCLE, cycle_loss
from lumirkit.train.learning_rate import LearningRate
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.recipe import Stage
from lumirkit.train.views import make_view, views_of

SHAPE = (10, 12, 14)


def translation(*vector):
    forward = torch.tensor(vector, dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    return Registration(forward, -forward)


def everywhere():
    return torch.ones(1, 1, *SHAPE, dtype=torch.float64)


def test_a_consistent_triplet_costs_nothing():
    consistent = [translation(1.0, 2.0, 0.0), translation(-3.0, 0.5, 1.0), translation(2.0, -2.5, -1.0)]
    assert float(cycle_loss(consistent, everywhere())) == pytest.approx(0, abs=1e-12)


def test_a_known_error_in_the_units_of_the_publication():
    """What is left is (1, 2, 2) voxels: 9 voxels^2, a voxel being 2 / 14."""
    left = [translation(1.0, 0.0, 0.0), translation(0.0, 2.0, 0.0), translation(0.0, 0.0, 2.0)]
    assert float(cycle_loss(left, everywhere())) == pytest.approx(9 * (2 / 14) ** 2)
    half = everywhere()
    half[:, :, :5] = 0
    assert float(cycle_loss(left, half)) == pytest.approx(9 * (2 / 14) ** 2 / 2)


def test_the_cycle_follows_the_images():
    """Each pair's field leads from its fixed to its moving image, which the next pair has as fixed image."""
    assert [moving for _, moving in CYCLE] == [fixed for fixed, _ in (*CYCLE[1:], CYCLE[0])]


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(input_transform="intensity", feature_channels=(4, 4), update_channels=(4, 4)))
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=0.3)
    return network.double()


def triplet(seed=0):
    torch.manual_seed(seed)
    return [255 * torch.rand(1, 1, *SHAPE, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("appearances", [None, [Appearance(gamma=1.5, noise_std=0.02, noise_seed=3)]])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_the_whole_graph(network, appearances, recompute):
    losses = Objective(LossSettings(ncc_window_vox=5, ndv_weight=1e-3, intermediate_weight=0.01))
    views, weight = [make_view(image, network.config, appearances) for image in triplet()], 40.0
    network.recompute = recompute
    terms = triplet_step(network, views, losses, weight)
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network.recompute = False
    pairs = [(views[fixed], views[moving]) for fixed, moving in CYCLE]
    cycle = cycle_loss([register(network, f.seen, m.seen)[-1] for f, m in pairs], views[0].clean)
    total = sum(pairwise_loss(network, f, m, losses)[0] for f, m in pairs) / 3 + weight * cycle
    total.backward()
    assert terms["loss"] == pytest.approx(total.item(), rel=1e-9)
    assert terms["cycle"] == pytest.approx(cycle.item(), rel=1e-9)
    assert cycle.item() > 1e-4
    largest = max(parameter.grad.abs().max().item() for parameter in network.parameters())
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=1e-9 * largest)


def test_the_loss_sees_clean_images(network):
    fixed, moving, _ = triplet()
    views = [make_view(image, network.config, [Appearance(noise_std=0.2, noise_seed=1)]) for image in (fixed, moving)]
    losses = Objective(LossSettings(ncc_window_vox=5, intermediate_weight=0))
    _, _, registration = pairwise_loss(network, *views, losses)
    seen_as_they_are = register(network, fixed, moving)[-1]
    assert (registration.forward_vox - seen_as_they_are.forward_vox).abs().max() > 1e-3
    with torch.no_grad():
        network.updates[0].head.weight.zero_()
        network.updates[1].head.weight.zero_()
    _, noisy, _ = pairwise_loss(network, *views, losses)
    _, clean, _ = pairwise_loss(network, *views_of((fixed, moving), network.config), losses)
    assert noisy["ncc"] == clean["ncc"]


def test_weights_grow_and_rates_fall():
    stage = Stage(
        epochs=4,
        items_per_epoch=10,
        learning_rate=1e-3,
        schedule="cosine",
        losses=LossSettings(group_consistency_weight=40, group_consistency_ramp_epochs=1),
    )
    assert stage.images_per_item == 3
    assert stage.cycle_weight_at(0) == pytest.approx(4)
    assert stage.cycle_weight_at(9) == stage.cycle_weight_at(30) == 40
    assert LearningRate(stage).share_at(0) == 1
    assert LearningRate(stage).share_at(20) == pytest.approx(0.5)
    assert Stage(epochs=1, items_per_epoch=1, learning_rate=1).images_per_item == 2
