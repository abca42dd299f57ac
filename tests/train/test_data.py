import errno
import json
import os
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from lumirkit.base.ahead import one_ahead
from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.registration.volume import write_volume
from lumirkit.train.augment import Augmentation
from lumirkit.train.data import GroupSampler, TrainingImages
from lumirkit.train.image_store import StoreError


def small_dataset(root, count, shape=(4, 4, 4)):
    names = [f"./imagesTr/LUMIRMRI_{n:04d}_0000.nii.gz" for n in range(count)]
    for n, name in enumerate(names):
        write_volume(root / name, np.full((4, 4, 4), n + 1, np.uint8), np.eye(4))
    content = {"tensorImageShape": {"0": shape}, "training": [{"image": name} for name in names]}
    (root / "LUMIR25_dataset.json").write_text(json.dumps(content))
    return root


def test_every_ordered_pair_is_drawn_equally_often_and_never_a_self_pair(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 4)), seed=0, stage=0)
    drawn = Counter(sampler.indices(sample) for sample in range(2400))
    assert set(drawn) == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert min(drawn.values()) > 130  # expected 200, standard deviation 14


def test_a_sample_depends_on_seed_stage_and_number_alone(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 4))
    draws = [
        [GroupSampler(images, seed, stage).indices(n) for n in range(50)] for seed, stage in ((0, 0), (1, 0), (0, 1))
    ]
    assert draws[0] == [GroupSampler(images, 0, 0).indices(n) for n in range(50)]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]


def test_images_come_with_their_values(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 3))
    sampler = GroupSampler(images, 0, 0)
    fixed, moving = sampler.batch([0, 7])
    assert fixed.shape == moving.shape == (2, 1, 4, 4, 4)
    for place, sample in enumerate([0, 7]):
        i, j = sampler.indices(sample)
        assert (float(fixed[place].max()), float(moving[place].min())) == (i + 1, j + 1)


def test_bad_datasets(tmp_path):
    with pytest.raises(ManifestError, match="exactly one"):
        TrainingImages(tmp_path)
    with pytest.raises(VolumeError, match="lists 1 training images; expected at least 2"):
        TrainingImages(small_dataset(tmp_path, 1))
    with pytest.raises(VolumeError, match=r"3 training images .*\n.*0000_0000.*found shape \(4, 4, 4\)"):
        TrainingImages(small_dataset(tmp_path, 3, shape=(4, 4, 5)))
    small_dataset(tmp_path, 3)
    (tmp_path / "imagesTr" / "LUMIRMRI_0001_0000.nii.gz").unlink()
    with pytest.raises(ManifestError, match=r"1 listed files do not exist.*0001_0000"):
        TrainingImages(tmp_path)


def test_triplets_hold_three_different_images_and_reach_every_order(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 4)), seed=0, stage=0, group=3)
    drawn = Counter(sampler.indices(sample) for sample in range(2400))
    assert set(drawn) == set(permutations(range(4), 3))
    assert min(drawn.values()) > 60  # expected 100, standard deviation 10


def test_too_few_images_for_a_triplet(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 2))
    with pytest.raises(VolumeError, match="a stage has 2 training images; with group consistency it draws 3"):
        GroupSampler(images, 0, 0, group=3)


def test_appearances_are_drawn_again_the_same(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 3)), 0, 0)
    ranges = Augmentation(noise_std=(0, 1), gamma=(0.5, 2))
    assert sampler.appearances(3, ranges) == sampler.appearances(3, ranges)
    first, second = sampler.appearances(3, ranges)
    assert first != second
    assert sampler.appearances(4, ranges) != sampler.appearances(3, ranges)


def test_other_intensities_are_kept_as_float16(tmp_path):
    root = small_dataset(tmp_path, 3)
    write_volume(root / "imagesTr" / "LUMIRMRI_0001_0000.nii.gz", np.full((4, 4, 4), 99.3, np.float32), np.eye(4))
    images = TrainingImages(root)
    assert images[0].dtype == torch.float16
    assert [float(images[n].max()) for n in range(3)] == [1, np.float16(99.3), 3]
    write_volume(root / "imagesTr" / "LUMIRMRI_0001_0000.nii.gz", np.full((4, 4, 4), 1e6, np.float32), np.eye(4))
    with pytest.raises(VolumeError, match="beyond 65504"):
        TrainingImages(root)


def test_every_damaged_image_is_named_before_anything_starts(tmp_path):
    root = small_dataset(tmp_path, 4)
    for n in (1, 2):
        path = root / "imagesTr" / f"LUMIRMRI_{n:04d}_0000.nii.gz"
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(VolumeError, match=r"2 training images cannot (.|\n)*0001_0000(.|\n)*0002_0000"):
        TrainingImages(root)


def test_decoded_images_leave_nothing_behind(tmp_path):
    images = TrainingImages(small_dataset(tmp_path / "data", 3), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    assert float(images[2].max()) == 3


def test_no_room_for_decoded_images(tmp_path, monkeypatch):
    def full(handle, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"need 0.0 GB \(No space left on device\)"):
        TrainingImages(small_dataset(tmp_path / "data", 3), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_batches_are_read_one_ahead_and_in_order():
    read, used = [], []
    for item in one_ahead(lambda item: read.append(item) or item, range(5)):
        used.append((item, len(read)))
    assert [item for item, _ in used] == list(range(5)) == read
    assert all(ahead <= item + 3 for item, ahead in used)  # never more than one beyond what is being loaded


def test_what_goes_wrong_while_reading_ahead_is_raised():
    def load(item):
        if item == 2:
            raise VolumeError("two")
        return item

    batches = one_ahead(load, range(5))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(VolumeError, match="two"):
        next(batches)
