"""Dataset JSONs as tasks and editors write them: read as they are meant, or refused by the key that is wanted."""

import json

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import ManifestError, find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import validation_files

FIELDS = ["disp_3455_3454.nii.gz", "disp_3485_3484.nii.gz", "disp_4015_4014.nii.gz", "disp_4024_4033.nii.gz"]
SHAPE = (32, 40, 34)


@pytest.fixture
def files(phantom_root, tmp_path):
    """List the pairs of the dataset after a change of its JSON; `written` makes bytes of the text."""

    def listed(change=lambda content: content, written=str.encode):
        content = json.loads(find_dataset_json(phantom_root).read_text())
        path = tmp_path / "changed_dataset.json"
        path.write_bytes(written(json.dumps(change(content) or content)))
        return validation_files(path, phantom_root, tmp_path / "out")

    return listed


def registration_val(content):
    content["registration_val"] = content.pop("validation")
    content["training"] = [entry["image"] for entry in content["training"]]


def without_numbers(content):
    del content["numTraining"], content["numValidation"]


def shape_as_list(content):
    content["tensorImageShape"] = list(SHAPE)


def without_shape(content):
    del content["tensorImageShape"]


def backslashes(content):
    return json.loads(json.dumps(content).replace("/", "\\\\"))


@pytest.mark.parametrize("change", [registration_val, without_numbers, shape_as_list, without_shape, backslashes])
def test_the_forms_of_other_tasks_are_read_as_the_challenges(files, change):
    assert sorted(pair.field.name for pair in files(change)) == FIELDS
    assert {pair.shape for pair in files(change)} == {SHAPE}


def test_the_mark_of_some_editors_before_the_first_byte_is_skipped(files):
    assert len(files(written=lambda text: b"\xef\xbb\xbf" + text.encode())) == 4


def test_training_images_may_be_bare_paths(phantom_root, tmp_path):
    content = json.loads(find_dataset_json(phantom_root).read_text())
    named = [entry["image"] for entry in content["training"]]
    path = tmp_path / "a_dataset.json"
    path.write_text(json.dumps(content | {"training": named}))
    assert read_dataset(path).training == read_dataset(find_dataset_json(phantom_root)).training


def test_without_a_stated_shape_the_first_image_that_is_there_tells_it(tmp_path):
    pair = {"fixed": "a_0001_0000.nii.gz", "moving": "b_0002_0000.nii.gz"}
    path = tmp_path / "a_dataset.json"
    path.write_text(json.dumps({"training": ["absent_0000_0000.nii.gz"], "validation": [pair]}))
    with pytest.raises(ManifestError, match="found no image of the dataset JSON, which states no tensorImageShape"):
        _ = read_dataset(path).image_shape
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "b_0002_0000.nii.gz")
    assert read_dataset(path).image_shape == (3, 4, 5)


def test_a_pair_that_stands_twice_is_registered_once_and_an_image_with_itself_is_remarked(files, capsys):
    def odd(content):
        first = content["validation"][0]
        content["validation"] += [first, {"fixed": first["fixed"], "moving": first["fixed"]}]

    assert len(files(odd)) == 5
    printed = capsys.readouterr().err
    assert "is listed 2 times, and registered once" in printed
    assert "is an image with itself" in printed


def nnunet(content):
    return {"channel_names": {"0": "MR"}, "labels": {"background": 0}, "numTraining": 8, "file_ending": ".nii.gz"}


def only_test_pairs(content):
    content["registration_test"] = content.pop("validation")


def one_field_for_two(content):
    pair = content["validation"][0]
    content["validation"].append({key: value.replace("LUMIRMRI", "other") for key, value in pair.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nnunet, r"found the keys channel_names, labels, .*; expected training.*validation \(or registration_val\)"),
        (only_test_pairs, "no validation pairs, but the keys .*registration_test; expected .*key validation or"),
        (one_field_for_two, r"two pairs whose field is disp_\d+_\d+.nii.gz"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_keys(files, change, message):
    with pytest.raises((ManifestError, RequestError), match=message):
        files(change)
