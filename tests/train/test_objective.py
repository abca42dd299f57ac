import pytest
import torch

from lumirkit.registration.losses import diffusion_loss, masked_ncc_loss
from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.gradients import pair_step, triplet_step
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.views import views_of

SEES_PARTS = SITRegConfig(resolution_vox=2, seen_vox=1, feature_channels=(4, 4), update_channels=(4, 4))
LOSSES = LossSettings(ncc_window_vox=5, intermediate_weight=0.5)


def lively_network():
    torch.manual_seed(0)
    network = SITReg(SEES_PARTS)
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=0.3)
    return network


def scans(count, shape=(22, 25, 24)):
    torch.manual_seed(1)
    return [255 * torch.rand(1, 1, *shape) for _ in range(count)]


def test_images_are_compared_as_the_network_sees_them_and_fields_are_smooth_on_their_own_grid():
    network, (fixed, moving) = lively_network(), scans(2)
    _, terms, found = pairwise_loss(network, *views_of((fixed, moving), SEES_PARTS), Objective(LOSSES))
    forward, inverse = (
        refine_displacement(field, 2, fixed.shape[2:]) for field in (found.forward_vox, found.inverse_vox)
    )
    fixed, moving = fixed / INTENSITY_MAX, moving / INTENSITY_MAX
    there, back = masked_ncc_loss(fixed, moving, forward, 5), masked_ncc_loss(moving, fixed, inverse, 5)
    assert forward.abs().max() > 0.5
    assert terms["ncc"] == pytest.approx(-(there + back).item() / 2, rel=1e-4)
    smooth = (diffusion_loss(found.forward_vox) + diffusion_loss(found.inverse_vox)) / 2
    assert terms["diffusion"] == pytest.approx(smooth.item(), rel=1e-4)


def test_pairs_and_triplets_teach_a_network_that_sees_parts():
    network = lively_network()
    views = views_of(scans(3), SEES_PARTS)
    pair_step(network, *views[:2], Objective(LOSSES))
    of_pair = network.extractor.stem.weight.grad.clone()
    network.zero_grad()
    terms = triplet_step(network, views, Objective(LOSSES), cycle_weight=100.0)
    assert of_pair.abs().min() > 0
    assert terms["cycle"] > 0
    assert not torch.allclose(network.extractor.stem.weight.grad, of_pair)
