"""What a job over a dataset checks before it starts."""

import re

import pytest

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import ManifestError, find_dataset_json
from lumirkit.data_manifests.worklist import PairFiles, Shard, validation_files


def test_each_pair_comes_with_its_files_and_the_promised_shape(phantom_root, tmp_path):
    files = validation_files(find_dataset_json(phantom_root), phantom_root, tmp_path / "out")
    images = phantom_root / "imagesVal"
    assert files[-1] == PairFiles(
        "4024_0000<--4033_0001",
        images / "LUMIRMRI_4024_0000.nii.gz",
        images / "LUMIRMRI_4033_0001.nii.gz",
        tmp_path / "out" / "disp_4024_4033.nii.gz",
        (32, 40, 34),
    )
    assert not (tmp_path / "out").exists()  # checking makes nothing; the first field does


def test_an_empty_shard_is_refused(phantom_root, tmp_path):
    with pytest.raises(RequestError, match="no validation pairs for this shard"):
        validation_files(find_dataset_json(phantom_root), phantom_root, tmp_path / "out", Shard(5, 5))
    assert not (tmp_path / "out").exists()


def test_absent_images_are_refused(phantom_root, tmp_path):
    with pytest.raises(ManifestError, match="listed files do not exist"):
        validation_files(find_dataset_json(phantom_root), tmp_path, tmp_path / "out")


def test_fields_of_other_pairs_in_the_folder_are_told_of(phantom_root, tmp_path, capsys):
    def said(*shard):
        validation_files(find_dataset_json(phantom_root), phantom_root, tmp_path, *shard)
        return capsys.readouterr().err

    (tmp_path / "disp_4024_4033.nii.gz").touch()
    assert said(Shard(1, 4)) == said() == "", "a field of another shard is no stranger"
    (tmp_path / "disp_0001_0002.nii.gz").touch()
    assert re.search(r"found fields of no pair of .*, 1 in all, such as disp_0001_0002\.nii\.gz", said())
