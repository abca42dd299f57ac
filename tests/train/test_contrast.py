"""A network that harmonises, through training and back."""

import torch

from lumirkit.registration.network import register
from lumirkit.registration.weights import load_weights
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe

CPU = Processes(torch.device("cpu"))
NETWORK = {"input_transform": "harmonised", "resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
STAGE = {
    "epochs": 1,
    "items_per_epoch": 2,
    "learning_rate": 2e-3,
    "losses": {"ncc_window_vox": 5, "intermediate_weight": 0.0},
    "deformation": {"std_vox": [1, 2], "scale_vox": [16, 16]},
    "augmentation": {"contrast_probability": 1.0, "noise_std": [0.0, 0.02]},
}


def recipe(**changes):
    return Recipe.model_validate({"name": "tiny", "network": NETWORK, "stages": [STAGE, STAGE]} | changes)


def reference_of(path):
    network, _ = load_weights(path)
    assert network.harmonisation is not None
    return network.harmonisation.state_dict()


def test_training_fits_the_reference_and_weights_started_from_keep_theirs(phantom_root, tmp_path):
    first = train(recipe(), phantom_root, tmp_path / "first", CPU)
    reference = reference_of(first)
    assert reference["moments"].min() > 0
    assert (reference["anatomy"] > 0).sum() > 1000
    second = train(recipe(initial_weights=str(first), seed=1), phantom_root, tmp_path / "second", CPU)
    assert torch.equal(reference_of(second)["anatomy"], reference["anatomy"])
    network, _ = load_weights(second)
    noise = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert register(network, 255 * noise, 100 * noise)[0].forward_vox.isfinite().all()


def test_a_stopped_run_goes_on_with_the_same_reference(phantom_root, tmp_path):
    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    train(recipe(stages=[STAGE]), phantom_root, tmp_path / "half", CPU)
    continued = train(recipe(), phantom_root, tmp_path / "continued", CPU, start=tmp_path / "half")
    first, _ = load_weights(whole)
    other, _ = load_weights(continued)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
