"""Reading the organisers' evaluation configs."""

import json
from pathlib import Path

import pytest

from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.data_manifests.evaluation_config import (
    Split,
    beside_image,
    find_evaluation_configs,
    read_evaluation_config,
    split_of,
)

SUFFIX = "_evaluation_config.json"
FILES = {
    Split.LANDMARKS: f"LUMIR25_VAL_LUMIR24_Landmark{SUFFIX}",
    Split.IN_DOMAIN: f"LUMIR25_VAL_LUMIR24_Segmentation{SUFFIX}",
    Split.OUT_OF_DOMAIN: f"LUMIR25_VAL_HighField_Segmentation{SUFFIX}",
    Split.MULTI_MODAL: f"LUMIR25_TEST_MultiModal_Segmentation{SUFFIX}",
}


def content(**changes):
    config = {
        "name": "LUMIR",
        "evaluation_methods": [
            {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
            {"name": "DSC", "metric": "dice", "labels": [0, 4]},
            {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        ],
        "expected_shape": [16, 18, 20, 3],
        "eval_pairs": [
            {"fixed": "./imagesVal/LUMIRMRI_3455_0000.nii.gz", "moving": "./imagesVal/LUMIRMRI_3454_0000.nii.gz"}
        ],
        "eval_config_version": 0.0,
        "masked_evaluation": False,
    }
    return config | changes


def write(folder, split=Split.IN_DOMAIN, **changes):
    path = folder / FILES[split]
    path.write_text(json.dumps(content(**changes)), encoding="utf-8")
    return path


def test_reads_a_config(tmp_path):
    path = write(tmp_path)
    config = read_evaluation_config(path)
    assert (config.name, config.path, config.split) == ("LUMIR", path, Split.IN_DOMAIN)
    assert config.image_shape == (16, 18, 20)
    assert config.eval_pairs[0].case_name == "3455_0000<--3454_0000"
    assert [metric.kind for metric in config.metrics] == ["ndv", "dice", "tre"]
    assert config.metrics[1].labels == (0, 4)
    assert [metric.folder for metric in config.metrics[1:]] == ["labels", "landmarks"]


def test_finds_the_configs_in_the_official_order(tmp_path):
    for split in reversed(Split):
        write(tmp_path, split)
    assert [config.split for config in find_evaluation_configs(tmp_path)] == list(Split)


def test_a_folder_may_hold_some_of_the_splits(tmp_path):
    write(tmp_path, Split.MULTI_MODAL)
    assert [config.split for config in find_evaluation_configs(tmp_path)] == [Split.MULTI_MODAL]


def test_the_files_of_2024_have_names_of_their_own():
    assert split_of(Path(f"LUMIR_VAL_Landmark{SUFFIX}")) is Split.LANDMARKS
    assert split_of(Path(f"LUMIR_VAL_Segmentation{SUFFIX}")) is Split.IN_DOMAIN


def test_labels_lie_beside_the_images():
    image = Path("./imagesVal/LUMIRMRI_3455_0000.nii.gz")
    assert beside_image(image, "landmarks") == Path("landmarksVal/LUMIRMRI_3455_0000.nii.gz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name: found null; expected a text"),
        ({"evaluation_methods": []}, "evaluation_methods: found 0 items; expected at least 1"),
        ({"evaluation_methods": [{"name": "DSC", "metric": "dice"}]}, "dice without labels; expected the list"),
        ({"evaluation_methods": [{"name": "J", "metric": "sdlogj"}]}, "evaluation_methods.0.metric: .*'ndv'"),
        ({"evaluation_methods": [{"name": "N", "metric": "ndv"}] * 2}, r"names \['N'\] occur twice"),
        (
            {"evaluation_methods": [{"name": "D", "metric": "dice", "labels": [-1]}]},
            "labels.0: found -1; expected",
        ),
        ({"expected_shape": [16, 18, 20]}, "expected_shape"),
        ({"expected_shape": [16, 18, 0, 3]}, "expected_shape.2: found 0; expected more than 0"),
        ({"eval_pairs": []}, "eval_pairs: found 0 items; expected at least 1"),
        ({"eval_pairs": [{"fixed": "imagesVal/a.nii.gz", "moving": "b"}]}, "a.nii.gz: the file name has no subject"),
        (
            {"eval_pairs": [{"fixed": "scans/A_3455_0000.nii.gz", "moving": "scans/A_3454_0000.nii.gz"}]},
            "found folder 'scans'; expected one like imagesVal",
        ),
        ({"masked_evaluation": True}, "masked_evaluation: found true; expected False"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ManifestError, match=message) as caught:
        read_evaluation_config(path)
    assert str(path) in str(caught.value)


def test_not_json(tmp_path):
    path = tmp_path / FILES[Split.IN_DOMAIN]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"not a usable JSON file; correct this:\n  found no JSON"):
        read_evaluation_config(path)


def test_missing_file(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_evaluation_config(tmp_path / FILES[Split.IN_DOMAIN])


def test_file_name_without_split(tmp_path):
    for name in ("", "in-domain"):
        path = tmp_path / f"{name}{SUFFIX}"
        path.write_text(json.dumps(content()), encoding="utf-8")
        with pytest.raises(ManifestError, match=r"tells no split; expected one of .*HighField_Segmentation.*Rename"):
            find_evaluation_configs(tmp_path)
        path.unlink()


def test_a_config_of_another_name_is_a_split_of_ones_own(tmp_path):
    for name in ("tumours", "lesions"):
        (tmp_path / f"{name}{SUFFIX}").write_text(json.dumps(content()), encoding="utf-8")
    write(tmp_path, Split.MULTI_MODAL)
    found = [config.split for config in find_evaluation_configs(tmp_path)]
    assert found == [Split.MULTI_MODAL, "lesions", "tumours"]


def test_two_configs_of_one_split(tmp_path):
    path = write(tmp_path)
    path.with_name(f"LUMIR25_TEST_LUMIR24_Segmentation{SUFFIX}").write_bytes(path.read_bytes())
    with pytest.raises(ManifestError, match=r"LUMIR25_TEST.*LUMIR25_VAL.*expected one config for in-domain"):
        find_evaluation_configs(tmp_path)


def test_empty_and_missing_folder(tmp_path):
    with pytest.raises(ManifestError, match=r"found no \*_evaluation_config.json"):
        find_evaluation_configs(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        find_evaluation_configs(tmp_path / "absent")
