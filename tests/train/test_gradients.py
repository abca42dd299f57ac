import pytest
import torch

from lumirkit.registration.losses import ndv_loss
from lumirkit.registration.network import register
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.views import views_of


def folding_network():
    """Strong updates: a level's update cannot fold, but their composition on a grid can."""
    torch.manual_seed(1)
    network = SITReg(SITRegConfig(feature_channels=(4, 4, 4), update_channels=(4, 4, 4)))
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=30)
    return network


def pair(shape=(20, 21, 22)):
    torch.manual_seed(2)
    return 255 * torch.rand(1, 1, *shape), 255 * torch.rand(1, 1, *shape)


@pytest.mark.parametrize("intermediate_weight", [0.0, 0.5])
def test_the_ndv_enters_with_its_weight_in_both_directions(intermediate_weight):
    network, (fixed, moving) = folding_network(), pair()
    plain = LossSettings(ncc_window_vox=5, intermediate_weight=intermediate_weight)
    weighted = plain.model_copy(update={"ndv_weight": 0.25})
    views = views_of((fixed, moving), network.config)
    without, terms_without, _ = pairwise_loss(network, *views, Objective(plain))
    loss, terms, _ = pairwise_loss(network, *views, Objective(weighted))
    ndv_by_level = [
        (ndv_loss(one.forward_vox) + ndv_loss(one.inverse_vox)).item() / 2
        for one in register(network, fixed, moving, every_level=True)
    ]
    assert terms["ndv_vox"] == pytest.approx(ndv_by_level[-1], rel=1e-4)
    assert all(ndv > 0 for ndv in ndv_by_level[1:])
    assert "ndv_vox" not in terms_without
    expected = 0.25 * (ndv_by_level[-1] + intermediate_weight * sum(ndv_by_level[:-1]))
    assert (loss - without).item() == pytest.approx(expected, rel=1e-3)
