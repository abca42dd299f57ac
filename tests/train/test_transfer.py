"""Starting from the parts of other weights that fit, and fine-tuning in two steps."""

import pytest
import torch
from safetensors.torch import load_file

from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.weights import WeightsError
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe
from lumirkit.train.transfer import start_from

CPU = Processes(torch.device("cpu"))
NETWORK = {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
STAGE = {"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}


def recipe(network=None, **changes):
    return Recipe.model_validate({"name": "tiny", "network": NETWORK | (network or {}), "stages": [STAGE], **changes})


def test_matching_parts_are_taken_and_all_others_named(make_weights):
    """Other input and more levels: what stands behind the first layer and on the two finest levels fits."""
    weights = make_weights(seed=3)
    own = recipe({"input_transform": "intensity", "feature_channels": [4, 4, 4], "update_channels": [4, 4, 4]})
    own = own.model_copy(update={"initial_parts": "matching"})
    torch.manual_seed(0)
    network = SITReg(own.network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    remark = start_from(weights, own, network)
    offered = load_file(weights)
    for name, tensor in network.state_dict().items():
        fits = name in offered and offered[name].shape == tensor.shape
        torch.testing.assert_close(tensor, offered[name] if fits else before[name], rtol=0, atol=0)
    assert network.state_dict()["updates.0.head.weight"].equal(offered["updates.0.head.weight"])
    taken = sum(name in offered and offered[name].shape == tensor.shape for name, tensor in before.items())
    assert remark.startswith(f"started from {taken} of the {len(before)} tensors in random_3.safetensors")
    assert "of this network not there: extractor.blocks.2.0.bias" in remark
    assert "not used: extractor.stem.weight" in remark


def test_weights_that_fit_nowhere_are_refused_with_both_lists(make_weights):
    weights = make_weights(network=SITRegConfig(feature_channels=(6, 6), update_channels=(6, 6)))
    own = recipe({"feature_channels": [8], "update_channels": [8]}, initial_parts="matching")
    network = SITReg(own.network)
    for update in network.updates:  # the one tensor of three numbers
        update.head.register_parameter("bias", None)
    with pytest.raises(WeightsError, match=r"none of its \d+ tensors has name and shape.*not there: .*; not used: "):
        start_from(weights, own, network)


def test_fine_tuning_in_two_steps(phantom_root, tmp_path, make_weights, capfd):
    """The extractor stays as it came in the first step and moves in the second."""
    weights = make_weights()
    first = STAGE | {"frozen": ["extractor.*"]}
    changes = {"initial_weights": str(weights), "initial_parts": "matching"}
    one = train(recipe(stages=[first], **changes), phantom_root, tmp_path / "one", CPU)
    assert "started from" in capfd.readouterr().err
    two = train(recipe(stages=[first, STAGE], **changes), phantom_root, tmp_path / "two", CPU)
    offered, after_one, after_two = load_file(weights), load_file(one), load_file(two)
    for name, tensor in offered.items():
        assert after_one[name].equal(tensor) == name.startswith("extractor."), name
        assert not after_two[name].equal(tensor), name
