"""A U-Net goes through everything that SITReg goes through: training, continuing, freezing, predicting."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.device import Place
from lumirkit.registration.network import register
from lumirkit.registration.volume import read_displacement
from lumirkit.registration.voxelmorph import VoxelMorph
from lumirkit.registration.weights import load_weights
from lumirkit.submission.predict import predict_dataset
from lumirkit.train.gradients import triplet_step
from lumirkit.train.group_consistency import CYCLE, cycle_loss
from lumirkit.train.loop import train
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.members import train_members
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe
from lumirkit.train.step import Stepper
from lumirkit.train.views import views_of

CPU = Processes(torch.device("cpu"))
NETWORK = {
    "architecture": "voxelmorph",
    "resolution_vox": 2,
    "encoder_channels": [4, 8],
    "decoder_channels": [8, 4],
    "head_channels": [4],
}
LOSSES = {"ncc_window_vox": 5, "diffusion_weight": 0.5}
STAGE = {"epochs": 2, "items_per_epoch": 2, "learning_rate": 2e-3, "losses": LOSSES}
BOTH_KINDS = pytest.mark.parametrize("diffeomorphic", [False, True])


def recipe(stages=(STAGE, STAGE), network=NETWORK, **changes):
    return Recipe.model_validate({"name": "unet", "network": network, "stages": list(stages), **changes})


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@BOTH_KINDS
def test_training_lowers_the_loss_and_the_weights_register(phantom_root, tmp_path, diffeomorphic):
    wider = {"encoder_channels": [8, 16, 16], "decoder_channels": [16, 16, 16], "head_channels": [16]}
    stage = STAGE | {"epochs": 1, "items_per_epoch": 120}
    plan = {"every_epochs": 1, "pairs_per_split": 1}
    network = NETWORK | wider | {"diffeomorphic": diffeomorphic}
    asked = recipe([stage], network, validation=plan, ema_decay=0.5)
    weights = train(asked, phantom_root, tmp_path / "run", CPU)
    losses = [entry["loss"] for entry in log_of(tmp_path / "run")]
    assert sum(losses[-24:]) / 24 < sum(losses[:24]) / 24 - 0.01  # each of the 12 ordered pairs about twice
    network, card = load_weights(weights)
    assert isinstance(network, VoxelMorph)
    assert card.network == asked.network
    (validation,) = (json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines())
    assert 0.2 < validation["score"] < 1
    status = predict_dataset(
        find_dataset_json(phantom_root), phantom_root, tmp_path / "fields", [weights], Place(torch.device("cpu"))
    )
    assert status.failures == []
    fields = [read_displacement(path, (32, 40, 34)) for path in (tmp_path / "fields").glob("*.nii.gz")]
    assert len(fields) == 4
    assert all(0.05 < np.abs(field).max() < 20 for field in fields)


def test_every_feature_of_a_recipe_at_once(phantom_root, tmp_path):
    """Triplets, labels, generated pairs, parts of a batch, frozen parts, bfloat16 computed again."""
    factors = {"labels": 6, "shape_scale_vox": [6, 6], "deformation_scale_vox": [8, 12], "deformation_vox": [1, 1]}
    guided = STAGE | {
        "batch_size": 2,
        "samples_at_once": 1,
        "losses": LOSSES | {"dice_weight": 1, "dice_labels": 4},
        "synthetic": {"share": 0.5, "factors": factors},
        "augmentation": {"noise_std": [0.0, 0.1]},
    }
    cyclic = STAGE | {"frozen": ["encoder.*"], "losses": LOSSES | {"group_consistency_weight": 1, "ndv_weight": 1e-3}}
    asked = recipe(stages=[guided, cyclic], convolutions="bfloat16", recompute=True, kept_checkpoints=9)
    weights = train(asked, phantom_root, tmp_path, CPU)
    log = log_of(tmp_path)
    assert {"dice", "cycle", "ndv_vox"} <= {name for entry in log for name in entry}
    before, after = load_file(tmp_path / "checkpoints" / "step_00000002.safetensors"), load_file(weights)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[f"network/{name}"]) == name.startswith("encoder."), name


def test_an_interrupted_run_continues_bit_for_bit(phantom_root, tmp_path, monkeypatch):
    whole = load_file(train(recipe(), phantom_root, tmp_path / "whole", CPU))
    take = Stepper.take

    def cut(stepper, batch):
        if batch.step == 3:
            raise KeyboardInterrupt
        return take(stepper, batch)

    monkeypatch.setattr(Stepper, "take", cut)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), phantom_root, tmp_path / "cut", CPU)
    monkeypatch.undo()
    continued = load_file(train(recipe(), phantom_root, tmp_path / "cut", CPU))
    assert all(torch.equal(tensor, whole[name]) for name, tensor in continued.items())


def test_members_predict_together(phantom_root, tmp_path):
    members = train_members(recipe(stages=[STAGE]), phantom_root, tmp_path / "members", CPU, 2)
    place, dataset_json = Place(torch.device("cpu")), find_dataset_json(phantom_root)
    fields = []
    for weights in (members[:1], members[1:], members):
        out = tmp_path / str(len(fields))
        assert predict_dataset(dataset_json, phantom_root, out, weights, place).failures == []
        fields.append(read_displacement(out / "disp_3455_3454.nii.gz", (32, 40, 34)))
    first, second, together = fields
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(together, (first + second) / 2, atol=1e-4)


@BOTH_KINDS
def test_gradients_of_a_triplet_are_those_of_the_whole_graph(diffeomorphic):
    torch.manual_seed(0)
    network = VoxelMorph(recipe(network=NETWORK | {"diffeomorphic": diffeomorphic}).network).double()
    torch.nn.init.normal_(network.head[-1].weight, std=0.1)
    losses = Objective(LossSettings(ncc_window_vox=5, ndv_weight=1e-3))
    views = views_of([255 * torch.rand(1, 1, 10, 12, 14, dtype=torch.float64) for _ in range(3)], network.config)
    terms = triplet_step(network, views, losses, 40.0)
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    pairs = [(views[fixed], views[moving]) for fixed, moving in CYCLE]
    cycle = cycle_loss([register(network, f.seen, m.seen)[-1] for f, m in pairs], views[0].clean)
    total = sum(pairwise_loss(network, f, m, losses)[0] for f, m in pairs) / 3 + 40 * cycle
    total.backward()
    assert terms["loss"] == pytest.approx(total.item(), rel=1e-9)
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=1e-9)
