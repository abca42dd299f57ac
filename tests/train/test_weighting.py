"""Learned weights: towards the analytic optimum, in the loss of a pair, and through a whole run."""

import json
from math import exp

import pytest
import torch
from pydantic import ValidationError

from lumirkit.registration.losses import diffusion_loss
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.loop import train
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, Stage
from lumirkit.train.views import views_of
from lumirkit.train.weighting import LearnedWeights

CPU = Processes(torch.device("cpu"))


@pytest.mark.parametrize("losses", [{"ncc": 0.25, "dice": 4.0}, {"ncc": 0.9, "dice": 0.1}])
def test_weights_become_the_inverse_of_their_losses(losses):
    """d/ds [exp(-s) L + s] = 0 at exp(-s) = 1 / L, whatever the other terms are; all then count alike."""
    learned = LearnedWeights(losses)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        sum(learned(term, torch.tensor(loss)) for term, loss in losses.items()).backward()
        optimizer.step()
    for term, loss in losses.items():
        assert learned.weight(term) == pytest.approx(1 / loss, rel=1e-3)


def test_a_toy_of_two_losses_ends_at_its_joint_optimum():
    """Noises of two measurements of one number, as in Kendall et al.: the quieter one weighs more.

    L_1 = (x - 1)^2 + 0.04 and L_2 = (x + 1)^2 + 1: at the optimum of log L_1 + log L_2 over x.
    """
    x = torch.zeros((), requires_grad=True)
    learned = LearnedWeights(["a", "b"])
    optimizer = torch.optim.Adam([x, *learned.parameters()], lr=0.02)
    for _ in range(4000):
        optimizer.zero_grad()
        (learned("a", (x - 1) ** 2 + 0.04) + learned("b", (x + 1) ** 2 + 1)).backward()
        optimizer.step()
    grid = torch.linspace(-2, 2, 400001, dtype=torch.float64)
    best = grid[(((grid - 1) ** 2 + 0.04).log() + ((grid + 1) ** 2 + 1).log()).argmin()].item()
    assert x.item() == pytest.approx(best, abs=2e-3)
    assert learned.weight("a") == pytest.approx(1 / ((best - 1) ** 2 + 0.04), rel=0.02)
    assert learned.weight("b") == pytest.approx(1 / ((best + 1) ** 2 + 1), rel=0.02)


def test_regularisers_keep_the_weights_of_the_recipe():
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(feature_channels=(4, 4), update_channels=(4, 4)))
    views = views_of((255 * torch.rand(2, 1, 1, 16, 18, 20)).unbind(), network.config)
    losses = LossSettings(ncc_weight=0.5, ssim_weight=2, ncc_window_vox=5, diffusion_weight=3, intermediate_weight=0)
    learned = LearnedWeights(losses.guiding)
    with torch.no_grad():
        learned.log_variances["ncc"].fill_(0.7)
        learned.log_variances["ssim"].fill_(-0.2)
    total, terms, found = pairwise_loss(network, *views, Objective(losses, learned))
    diffusion = (diffusion_loss(found.forward_vox) + diffusion_loss(found.inverse_vox)).item() / 2
    ncc, ssim = 0.5 * (1 - terms["ncc"]), 2 * (1 - terms["ssim"])
    expected = exp(-0.7) * ncc + 0.7 + exp(0.2) * ssim - 0.2 + 3 * diffusion
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert (terms["weight_ncc"], terms["weight_ssim"]) == pytest.approx((exp(-0.7), exp(0.2)))
    plain, terms, _ = pairwise_loss(network, *views, Objective(losses))
    assert plain.item() == pytest.approx(ncc + ssim + 3 * diffusion, rel=1e-5)
    assert "weight_ncc" not in terms


def recipe():
    losses = {"ncc_window_vox": 5, "dice_weight": 1, "hausdorff_weight": 0.1, "dice_labels": 3, "ssim_weight": 1}
    stage = {
        "epochs": 3,
        "items_per_epoch": 2,
        "learning_rate": 2e-3,
        "schedule": "plateau",
        "plateau_patience_epochs": 1,
        "losses": losses,
        "one_image": {
            "share": 0.5,
            "factors": {"translation_vox": 2, "bending_vox": 1},
            "losses": losses | {"displacement_weight": 0.1},
        },
        "uncertainty": {"learning_rate": 0.05},
    }
    network = {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
    return Recipe.model_validate({"name": "tiny", "network": network, "stages": [stage]})


def test_weights_are_logged_change_and_continue_bit_for_bit(phantom_root, tmp_path):
    from lumirkit.train.deadline import Deadline

    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    for _ in range(6):
        cut = train(recipe(), phantom_root, tmp_path / "cut", CPU, Deadline(minutes=0))
    assert cut.read_bytes()[-4096:] == whole.read_bytes()[-4096:]
    logs = [
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "cut")
    ]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    weights = [entry["weight_dice"] for entry in logs[0]]
    assert weights[0] == 1 and len(set(weights)) == 6
    assert {"displacement_error" in entry for entry in logs[0]} == {True, False}
    assert all(entry["hausdorff"] > 0 and -1 < entry["ssim"] < 1 for entry in logs[0])


@pytest.mark.parametrize("rate", [0, -1])
def test_a_learning_rate_is_above_0(rate):
    with pytest.raises(ValidationError, match="greater than 0"):
        Stage.model_validate(
            {"epochs": 1, "items_per_epoch": 1, "learning_rate": 1, "uncertainty": {"learning_rate": rate}}
        )
