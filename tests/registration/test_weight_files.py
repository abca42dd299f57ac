"""Weights packed to be shipped: half the size, noted, and nearly the same fields."""

import pytest
import torch
from safetensors.torch import load_file

from lumirkit.base.errors import RequestError
from lumirkit.registration.network import register
from lumirkit.registration.weight_files import pack_weights
from lumirkit.registration.weights import load_ensemble, load_weights


def test_packed_weights_are_half_as_large_and_register_alike(lumirkit, make_weights, tmp_path):
    files = [make_weights(seed) for seed in (1, 2)]
    arguments = ["--pack", tmp_path / "small", "--note", "data=phantoms", "--note", "licence=CC0"]
    assert lumirkit("weights", *files, *arguments).returncode == 0
    small = [tmp_path / "small" / file.name for file in files]
    for file, packed in zip(files, small, strict=True):
        assert packed.stat().st_size < 0.75 * file.stat().st_size  # the header does not shrink
        expected = {name: tensor.half() for name, tensor in load_file(file).items()}
        assert all(tensor.equal(expected[name]) for name, tensor in load_file(packed).items())
        network, card = load_weights(packed)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        assert card.provenance == {"data": "phantoms", "licence": "CC0"}
        assert card.sha256 != load_weights(file)[1].sha256
    images = 255 * torch.rand(2, 1, 1, 16, 20, 18, generator=torch.Generator().manual_seed(0))
    large, little = (register(load_ensemble(paths)[0], *images)[-1].forward_vox for paths in (files, small))
    assert large.abs().max() > 0.3
    torch.testing.assert_close(little, large, atol=0.01, rtol=0)


def test_impossible_packing_writes_nothing(make_weights, tmp_path):
    file = make_weights(seed=3)
    with pytest.raises(RequestError, match="--note data: expected key=value"):
        pack_weights([file], tmp_path / "out", ["data"])
    with pytest.raises(RequestError, match=r"two of .*random_3.* have one name"):
        pack_weights([file, file], tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
