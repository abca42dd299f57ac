"""Greedy finds a known translation, says nothing, and ends with a sentence where it cannot register."""

import json

import nibabel as nib
import numpy as np
import pytest
from translated import AFFINES, SHAPE, axes, texture, translated_pair

from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import Shard
from lumirkit.eval.baselines.greedy import Greedy
from lumirkit.eval.baselines.record import record_path
from lumirkit.eval.baselines.run import run_baseline
from lumirkit.registration.volume import Volume

pytest.importorskip("picsl_greedy", reason="needs the extra: pip install '.[baselines]'")


@axes
def test_greedy_pulls_the_moving_image_onto_the_fixed_one(axis, tmp_path, capfd):
    fixed, moving = translated_pair(axis, AFFINES["oblique"], 2, tmp_path)
    disp_vox = Greedy()(fixed, moving)
    assert disp_vox.dtype == np.float32
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 2, atol=0.03)
    assert capfd.readouterr() == ("", "")


def test_one_seed_gives_one_field_on_any_number_of_threads(tmp_path):
    fixed, moving = (Volume(tmp_path, texture(seed), np.eye(4)) for seed in (0, 3))
    first, again, other = (
        Greedy(iterations=(20, 10), seed=seed, threads=threads)(fixed, moving)
        for seed, threads in ((1, 2), (1, 1), (2, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_a_field_is_not_rounded(tmp_path):
    disp_vox = Greedy()(*translated_pair(0, np.eye(4), 2, tmp_path))
    assert np.abs(10 * disp_vox - np.rint(10 * disp_vox)).max() > 0.3


@pytest.mark.parametrize(
    ("fixed", "moving", "reason"),
    [
        (texture() * (np.indices(SHAPE)[0] < 20), texture() * (np.indices(SHAPE)[0] >= 20), "no voxel is foreground"),
        (texture(), np.full(SHAPE, 5, np.float32), "moving.nii.gz: every voxel is 5"),
        (np.full(SHAPE, 7, np.float32), texture(), "fixed.nii.gz: every voxel is 7"),
        (texture()[:3, :3, :3], texture(1)[:3, :3, :3], "requires a minimum of four pixels"),
    ],
    ids=["apart", "constant moving", "constant fixed", "too small"],
)
def test_a_pair_that_cannot_be_registered_ends_with_a_sentence(fixed, moving, reason, tmp_path, capfd):
    volumes = (
        Volume(tmp_path / f"{name}.nii.gz", data.astype(np.float32), np.eye(4))
        for name, data in (("fixed", fixed), ("moving", moving))
    )
    with pytest.raises(VolumeError, match=reason) as raised:
        Greedy()(*volumes)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_field_that_is_not_finite_is_refused(tmp_path):
    of_one_voxel = Greedy(radius=(0, 0, 0))  # one voxel has no correlation
    with pytest.raises(VolumeError, match="found displacements that are NaN or inf"):
        of_one_voxel(*(Volume(tmp_path, texture(seed), np.eye(4)) for seed in (0, 1)))


def test_names_with_blanks(phantom_root, tmp_path):
    (tmp_path / "my data").symlink_to(phantom_root)
    data, out = tmp_path / "my data", tmp_path / "my fields"
    json_path = find_dataset_json(data)
    assert run_baseline("greedy", json_path, data, out, Shard(1, 4)) == []
    field = out / read_dataset(json_path).validation[0].field_name
    assert np.isfinite(nib.load(field).get_fdata()).all()
    record = json.loads(record_path(field).read_text())
    assert record["package"] == "picsl-greedy"
    assert record["settings"]["metric"] == "NCC"
    assert record["settings"]["iterations"] == [100, 50, 20]
