"""Predictions that are refined: their account, restarts, and requests that cannot be carried out."""

import json

import nibabel as nib
import numpy as np
import pytest

from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.volume import read_displacement
from lumirkit.registration.voxelmorph import VoxelMorphConfig
from lumirkit.submission.shipped_weights import SHIPPED_WEIGHTS


@pytest.fixture
def predict(lumirkit, dataset, tmp_path):
    def run(*more, weights=SHIPPED_WEIGHTS):
        return lumirkit("predict", "--dataset", dataset, "--out", tmp_path / "out", "--weights", weights, *more)

    return run


@pytest.fixture
def status(tmp_path):
    return lambda: json.loads((tmp_path / "out" / "lumirkit_status.json").read_text())


def fields(tmp_path):
    return {path.name: path.read_bytes() for path in sorted((tmp_path / "out").glob("*.nii.gz"))}


def test_the_account_tells_of_every_stage(predict, status):
    assert predict("--refine", 3, "--refine-grid", 1).returncode == 0
    told = status()
    assert told["refinement"]["steps"] == 3
    pairs = {pair["case_name"]: pair for pair in told["pairs"]}
    refined = [pair for pair in pairs.values() if pair["refinement"]]
    assert len(refined) >= 2
    for pair in refined:
        assert [stage["grid_vox"] for stage in pair["refinement"]] == [8, 4, 2, 1]
        assert all(stage["loss_after"] <= stage["loss_before"] for stage in pair["refinement"])
        assert pair["refinement"][-1]["loss_after"] < pair["refinement"][-1]["loss_before"]
        assert pair["warnings"] == []
    t1_with_t2 = pairs["4024_0000<--4033_0001"]
    assert t1_with_t2["refinement"] == []
    assert "differ in contrast" in t1_with_t2["warnings"][0]


def test_a_restart_keeps_what_was_refined_alike_and_makes_the_same_bytes(predict, status, tmp_path):
    states = lambda: {pair["state"] for pair in status()["pairs"]}  # noqa: E731
    assert predict("--refine", 2).returncode == 0
    first = fields(tmp_path)
    assert predict("--refine", 2).returncode == 0
    assert states() == {"kept"}
    assert predict().returncode == 0
    assert states() == {"written"}
    assert not any(first[name] == content for name, content in fields(tmp_path).items())
    assert predict("--refine", 2).returncode == 0
    assert states() == {"written"}
    assert fields(tmp_path) == first


@pytest.mark.usefixtures("one_thread")
def test_a_team_refines_too(predict, tmp_path):
    assert predict("--refine", 2).returncode == 0
    first = fields(tmp_path)
    for path in (tmp_path / "out").glob("*.nii.gz"):
        path.unlink()
    assert predict("--refine", 2, "--workers", 2).returncode == 0
    assert fields(tmp_path) == first


def test_without_a_network(predict, status, tmp_path):
    assert predict("--refine", 3, weights="none").returncode == 0
    assert (status()["members"], status()["weights_sha256"]) == (0, "")
    for path in (tmp_path / "out").glob("*.nii.gz"):
        disp_vox = read_displacement(path, (32, 40, 34))
        assert 0.5 < np.abs(disp_vox).max() < 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--refine", -1], "Invalid value for '--refine'"),
        (["--refine", 2, "--refine-grid", 3], "found 3; expected one of 2, 1"),
        (["--refine-grid", 1], "expected a whole number from 1 on"),
        (["--weights", "none"], "found neither weights nor a refinement"),
    ],
)
def test_impossible_requests_start_nothing(lumirkit, dataset, tmp_path, arguments, said):
    done = lumirkit("predict", "--dataset", dataset, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_weights_without_control_points_are_refused(predict, make_weights):
    unet = make_weights(0, VoxelMorphConfig(encoder_channels=(4, 4), decoder_channels=(4, 4), head_channels=(4,)))
    done = predict("--refine", 2, weights=unet)
    assert done.returncode == 2
    assert "architecture voxelmorph; expected sitreg" in done.stderr


def test_brains_that_do_not_overlap_cost_their_pair_alone(predict, status, dataset):
    image = dataset / json.loads(find_dataset_json(dataset).read_text())["validation"][0]["fixed"]
    loaded = nib.load(image)
    data = np.zeros(loaded.shape, np.uint8)
    data[0, 0, 0] = 200
    nib.save(nib.Nifti1Image(data, loaded.affine, loaded.header), image)
    done = predict("--refine", 2)
    assert done.returncode == 1
    failed = [pair for pair in status()["pairs"] if pair["state"] == "failed"]
    assert len(failed) == 1
    assert "no voxel shows brain (> 0) in both" in failed[0]["reason"]
    assert len(status()["pairs"]) == 4


def test_register_says_what_was_gained(lumirkit, dataset, tmp_path):
    pair = json.loads(find_dataset_json(dataset).read_text())["validation"][0]
    images = [dataset / pair[role] for role in ("fixed", "moving")]
    done = lumirkit("register", *images, tmp_path / "field.nii.gz", "--refine", 3, "--as-is")
    assert done.returncode == 0
    assert "refined on a grid of 4 image voxels a voxel: loss" in done.stderr
    assert (tmp_path / "field.nii.gz").exists()
