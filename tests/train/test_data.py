import json
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from data_manifests.dataset import ManifestError
from registration.volume import VolumeError, write_volume
from train.augment import Augmentation
from train.data import GroupSampler, TrainingImages


def small_dataset(root, count, shape=(4, 4, 4)):
    names = [f"./imagesTr/LUMIRMRI_{n:04d}_0000.nii.gz" for n in range(count)]
    for n, name in enumerate(names):
        write_volume(root / name, np.full((4, 4, 4), n + 1, np.uint8), np.eye(4))
    content = {"tensorImageShape": {"0": shape}, "training": [{"image": name} for name in names]}
    (root / "LUMIR25_dataset.json").write_text(json.dumps(content))
    return root


def test_every_ordered_pair_is_drawn_equally_often_and_never_a_self_pair(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 4)), seed=0, stage=0, length=2400)
    drawn = Counter(sampler.indices(sample) for sample in range(len(sampler)))
    assert set(drawn) == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert min(drawn.values()) > 130  # expected 200, standard deviation 14


def test_a_sample_depends_on_seed_stage_and_number_alone(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 4))
    draws = [
        [GroupSampler(images, seed, stage, 50).indices(n) for n in range(50)]
        for seed, stage in ((0, 0), (1, 0), (0, 1))
    ]
    assert draws[0] == [GroupSampler(images, 0, 0, 50).indices(n) for n in range(50)]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]


def test_images_come_with_their_values(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 3))
    number, (fixed, moving) = GroupSampler(images, 0, 0, 1)[0]
    i, j = GroupSampler(images, 0, 0, 1).indices(0)
    assert number == 0
    assert (float(fixed.max()), float(moving.min())) == (i + 1, j + 1)
    assert fixed.shape == (1, 4, 4, 4)


def test_bad_datasets(tmp_path):
    with pytest.raises(ManifestError, match="exactly one"):
        TrainingImages(tmp_path)
    with pytest.raises(VolumeError, match="lists 1 training images; expected at least 2"):
        TrainingImages(small_dataset(tmp_path, 1))
    images = TrainingImages(small_dataset(tmp_path, 3, shape=(4, 4, 5)))
    with pytest.raises(VolumeError, match=r"found shape \(4, 4, 4\); expected \(4, 4, 5\)"):
        images[0]
    (tmp_path / "imagesTr" / "LUMIRMRI_0001_0000.nii.gz").unlink()
    with pytest.raises(ManifestError, match=r"1 listed files do not exist.*0001_0000"):
        TrainingImages(tmp_path)


def test_triplets_hold_three_different_images_and_reach_every_order(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 4)), seed=0, stage=0, length=2400, group=3)
    drawn = Counter(sampler.indices(sample) for sample in range(len(sampler)))
    assert set(drawn) == set(permutations(range(4), 3))
    assert min(drawn.values()) > 60  # expected 100, standard deviation 10


def test_too_few_images_for_a_triplet(tmp_path):
    images = TrainingImages(small_dataset(tmp_path, 2))
    with pytest.raises(VolumeError, match="lists 2 training images; a stage with group consistency draws 3"):
        GroupSampler(images, 0, 0, 1, group=3)


def test_appearances_are_drawn_again_the_same(tmp_path):
    sampler = GroupSampler(TrainingImages(small_dataset(tmp_path, 3)), 0, 0, 5)
    ranges = Augmentation(noise_std=(0, 1), gamma=(0.5, 2))
    assert sampler.appearances(3, ranges) == sampler.appearances(3, ranges)
    first, second = sampler.appearances(3, ranges)
    assert first != second
    assert sampler.appearances(4, ranges) != sampler.appearances(3, ranges)
