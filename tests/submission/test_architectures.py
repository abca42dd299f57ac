"""A container with a U-Net inside, without the container: warmed up, run, restarted, and looked into."""

import forked
import numpy as np
import pytest

from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.volume import read_displacement
from lumirkit.registration.voxelmorph import VoxelMorphConfig
from lumirkit.registration.weight_files import read_cards
from lumirkit.submission.warm_up import warm_up

CHANNELS = {"encoder_channels": (4, 4), "decoder_channels": (4, 4), "head_channels": (4,)}


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_the_entrypoint_takes_a_unet(phantom_root, make_weights, tmp_path, capsys, diffeomorphic):
    config = VoxelMorphConfig(resolution_vox=2, diffeomorphic=diffeomorphic, **CHANNELS)
    weights = [make_weights(seed, network=config) for seed in (0, 1)]
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in weights:
        (folder / path.name).write_bytes(path.read_bytes())
    warm_up(folder)
    options = ("--dataset-json", find_dataset_json(phantom_root), "--output", tmp_path / "out", "--weights", folder)
    for _ in range(2):  # the second time the fields are kept
        run = forked.container(tmp_path / "said", *options)
        assert run.wait() == 0, run.said
    fields = [read_displacement(path, (32, 40, 34)) for path in (tmp_path / "out").glob("*.nii.gz")]
    assert len(fields) == 4
    assert all(0.1 < np.abs(field).max() < 32 for field in fields)
    assert {card.network.architecture for _, card in read_cards([folder])} == {"voxelmorph"}
