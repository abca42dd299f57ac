import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.weights import WeightsError, find_weights, load_ensemble, load_weights


def rewritten(path, tensors=None, metadata=None):
    """The same file with some tensors or the card exchanged."""
    with safe_open(path, "pt") as file:
        card = file.metadata()
    save_file({**load_file(path), **(tensors or {})}, path, metadata={**card, **(metadata or {})})
    return path


def test_weights_come_back_with_their_card(make_weights):
    path = make_weights(seed=5)
    network, card = load_weights(path)
    assert card.seed == 5
    assert network.config == card.network
    assert all(torch.equal(tensor, load_file(path)[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_called_so(tmp_path, name, zipped):
    """Copying them again would not help."""
    path = tmp_path / name
    torch.save({"layer.weight": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    for given in (path, tmp_path):
        with pytest.raises(WeightsError, match=r"a pickle, which may run any code.*safetensors.*Train that") as caught:
            load_ensemble([given])
        assert str(path) in str(caught.value)
        assert "again" not in str(caught.value)


def test_weights_are_known_by_what_is_in_them(make_weights, tmp_path):
    path = tmp_path / "called.pt"
    path.write_bytes(make_weights(seed=5).read_bytes())
    assert load_weights(path)[1].seed == 5


def test_changed_tensors_are_noticed(make_weights):
    path = rewritten(make_weights(), {"extractor.stem.bias": torch.ones(4)})
    with pytest.raises(WeightsError, match=r"hash to .*changed or\s+damaged"):
        load_weights(path)


def test_a_card_of_another_network_is_noticed(make_weights):
    path = make_weights()
    with safe_open(path, "pt") as file:
        card = file.metadata()["lumirkit"].replace('"feature_channels":[4,4]', '"feature_channels":[8,4]')
    with pytest.raises(WeightsError, match="do not fit the network in the card"):
        load_weights(rewritten(path, metadata={"lumirkit": card}))


def test_other_files_are_refused(tmp_path, make_weights):
    with pytest.raises(WeightsError, match="no such weight file"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_weights(tmp_path / "text.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="no lumirkit card"):
        load_weights(tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="card is not valid"):
        load_weights(rewritten(make_weights(), metadata={"lumirkit": "{}"}))


def test_a_folder_stands_for_its_weights(tmp_path, make_weights):
    path = make_weights()
    assert find_weights([path.parent]) == [path]
    with pytest.raises(WeightsError, match="the folder holds no"):
        find_weights([tmp_path])


def test_members_of_different_networks_are_refused_by_name_and_key(make_weights):
    other = make_weights(network=SITRegConfig(resolution_vox=1, feature_channels=(4, 4), update_channels=(4, 4)))
    with pytest.raises(WeightsError, match="resolution_vox is 1, there 2") as refused:
        load_ensemble([make_weights(), other])
    assert str(other) in str(refused.value)
