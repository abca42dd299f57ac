"""Reference methods over a dataset: their fields, their records, and what is made already."""

import hashlib
import json
import shutil
from importlib.metadata import PackageNotFoundError

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base import extras
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import Shard
from lumirkit.eval.baselines.record import record_path
from lumirkit.eval.baselines.run import run_baseline
from lumirkit.registration.volume import read_displacement


def test_the_zero_field_comes_in_the_format_of_predictions(lumirkit, phantom_root, tmp_path):
    assert lumirkit("baseline", "zero", "--dataset", phantom_root, "--out", tmp_path).returncode == 0
    pairs = read_dataset(find_dataset_json(phantom_root)).validation
    fields = [tmp_path / pair.field_name for pair in pairs]
    assert set(tmp_path.iterdir()) == {*fields, *map(record_path, fields)}
    image = nib.load(fields[0])
    assert image.shape == (32, 40, 34, 3)
    assert image.get_data_dtype() == np.float32
    assert not image.get_fdata().any()
    record = json.loads(record_path(fields[0]).read_text())
    assert record.pop("seconds") >= 0
    assert record == {
        "case": pairs[0].case_name,
        "method": "zero",
        "package": None,
        "version": None,
        "settings": {},
        "images_sha256": [
            hashlib.sha256((phantom_root / image).read_bytes()).hexdigest()
            for image in (pairs[0].fixed, pairs[0].moving)
        ],
    }


def test_a_field_is_kept_until_its_record_or_an_image_changes(lumirkit, phantom_root, tmp_path):
    dataset, out = shutil.copytree(phantom_root, tmp_path / "dataset"), tmp_path / "out"
    command = ("baseline", "zero", "--dataset", dataset, "--out", out)
    assert lumirkit(*command).returncode == 0
    kept, other, unfinished, *_ = sorted(out.glob("*.nii.gz"))
    for field in (kept, other, unfinished):
        field.write_bytes(b"as it was")
    record_path(unfinished).unlink()
    shutil.copy(
        dataset / "imagesVal/LUMIRMRI_3454_0000.nii.gz", dataset / f"imagesVal/LUMIRMRI_{other.name[5:9]}_0000.nii.gz"
    )
    assert lumirkit(*command).returncode == 0
    assert kept.read_bytes() == b"as it was"
    assert other.read_bytes() != b"as it was"
    assert unfinished.read_bytes() != b"as it was"


def test_the_fields_of_predict_are_not_overwritten(lumirkit, phantom_root, make_weights, tmp_path):
    where = ("--dataset", phantom_root, "--out", tmp_path, "--shard", "1/2")
    assert lumirkit("predict", *where, "--weights", make_weights()).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ended = lumirkit("baseline", "zero", *where)
    assert ended.returncode == 2
    assert "lumirkit_status_1of2.json: found the status file of `lumirkit predict`" in ended.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_image_fails_its_pair_and_no_other(lumirkit, phantom_root, tmp_path):
    dataset, out = shutil.copytree(phantom_root, tmp_path / "dataset"), tmp_path / "out"
    (dataset / "imagesVal/LUMIRMRI_3455_0000.nii.gz").write_bytes(b"")
    ended = lumirkit("baseline", "zero", "--dataset", dataset, "--out", out)
    assert ended.returncode == 1
    assert "3455_0000<--3454_0000" in ended.stderr
    assert len(list(out.glob("*.nii.gz"))) == len(list(out.glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("name", "method", "package"),
    [("syn", "SyN", "antspyx"), ("convexadam", "ConvexAdam", "convexAdam"), ("greedy", "Greedy", "picsl-greedy")],
)
def test_without_the_extra_the_request_is_refused(lumirkit, phantom_root, tmp_path, monkeypatch, name, method, package):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", not_installed)
    out = tmp_path / "out"
    ended = lumirkit("baseline", name, "--dataset", phantom_root, "--out", out)
    assert ended.returncode == 2
    extra = "install the extra, in the kit's folder: pip install -e '.[baselines]'"
    assert ended.stderr == f"error: the baseline {method} needs {package}; {extra}\n"
    assert not out.exists()


def test_an_unknown_baseline_is_refused(lumirkit, phantom_root, tmp_path):
    ended = lumirkit("baseline", "demons", "--dataset", phantom_root, "--out", tmp_path)
    assert ended.returncode == 2
    assert "expected one of zero, syn, convexadam, greedy, spline" in ended.stderr


@pytest.mark.parametrize(
    ("name", "module", "setting"),
    [
        ("syn", "ants", "iterations"),
        ("convexadam", "convexAdam", "selected_niter"),
        ("greedy", "picsl_greedy", "radius"),
    ],
)
def test_a_method_of_the_extra_writes_field_and_record_once(phantom_root, tmp_path, name, module, setting):
    pytest.importorskip(module, reason="needs the extra: pip install '.[baselines]'")
    json_path = find_dataset_json(phantom_root)
    assert run_baseline(name, json_path, phantom_root, tmp_path, Shard(1, 4)) == []
    field = tmp_path / read_dataset(json_path).validation[0].field_name
    assert np.abs(read_displacement(field, (32, 40, 34))).max() > 0.1
    record = json.loads(record_path(field).read_text())
    assert record["seconds"] > 0
    assert record["version"]
    assert setting in record["settings"]
    field.write_bytes(b"as it was")
    assert run_baseline(name, json_path, phantom_root, tmp_path, Shard(1, 4)) == []
    assert field.read_bytes() == b"as it was"
