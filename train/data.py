"""Training images, and the pairs and triplets drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from data_manifests.dataset import Dataset, find_dataset_json, read_dataset, require_files
from registration.volume import VolumeError, read_image
from train.augment import Appearance, Augmentation, draw_appearance

_CACHED_IMAGES = 256  # decoded images kept per process; at full size in uint8 about 1.8 GB

Image = Float[Tensor, "1 x y z"]


class TrainingImages:
    """The training images of a dataset folder, each decoded once while the cache has room."""

    def __init__(self, root: Path) -> None:
        """Read the folder's dataset JSON and check that the images are there.

        Raises:
            ManifestError: the JSON or a listed image is missing.
            VolumeError: there are fewer than two images, so that no pair can be drawn.
        """
        path = find_dataset_json(root)
        dataset: Dataset = read_dataset(path)
        require_files(root, [entry.image for entry in dataset.training], path)
        if len(dataset.training) < 2:
            raise VolumeError(f"{path}: lists {len(dataset.training)} training images; expected at least 2 for a pair.")
        self.source = path
        self.shape = dataset.image_shape
        self.paths: Sequence[Path] = [root / entry.image for entry in dataset.training]
        self._decoded = lru_cache(maxsize=_CACHED_IMAGES)(self._decode)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image:
        """One image as float32, intensities as in the file.

        Raises:
            VolumeError: the file cannot be used, or its shape is not the dataset's.
        """
        return torch.from_numpy(self._decoded(index).astype(np.float32))[None]

    def _decode(self, index: int) -> NDArray[np.float32] | NDArray[np.uint8]:
        image = read_image(self.paths[index])
        if image.shape != self.shape:
            raise VolumeError(f"{image.path}: found shape {image.shape}; expected {self.shape} as in the dataset JSON.")
        small = image.data.astype(np.uint8)
        return small if np.array_equal(small, image.data) else image.data


class GroupSampler(TorchDataset[tuple[int, list[Image]]]):
    """Random ordered pairs or triplets of different images; sample i depends on (seed, stage, i) alone.

    Whatever the number of worker processes, and wherever an interrupted run continues, the samples are the same.
    """

    def __init__(self, images: TrainingImages, seed: int, stage: int, length: int, group: int = 2) -> None:
        """Draw `group` images a sample.

        Raises:
            VolumeError: there are fewer images than a group has.
        """
        if len(images) < group:
            raise VolumeError(
                f"{images.source}: lists {len(images)} training images; a stage with group consistency draws {group} "
                "different ones at a time. Add images, or set its group_consistency_weight to 0."
            )
        self.images, self.seed, self.stage, self.length, self.group = images, seed, stage, length, group

    def __len__(self) -> int:
        return self.length

    def indices(self, sample: int) -> tuple[int, ...]:
        """Indices of the images, of a pair (fixed, moving): every ordered group is equally likely, none repeats one."""
        generator = np.random.default_rng([self.seed, self.stage, sample])
        chosen: list[int] = []
        for remaining in range(len(self.images), len(self.images) - self.group, -1):
            index = int(generator.integers(remaining))
            for taken in sorted(chosen):
                index += index >= taken
            chosen.append(index)
        return tuple(chosen)

    def appearances(self, sample: int, ranges: Augmentation) -> list[Appearance]:
        """What is done to each image of a sample before the network sees it."""
        generator = np.random.default_rng([self.seed, self.stage, sample, 1])
        return [draw_appearance(ranges, generator) for _ in range(self.group)]

    def names(self, sample: int) -> str:
        """The files of a sample, for messages."""
        return ", ".join(self.images.paths[index].name for index in self.indices(sample))

    def __getitem__(self, sample: int) -> tuple[int, list[Image]]:
        """Number of the sample, and its images."""
        if not 0 <= sample < self.length:
            raise IndexError(sample)
        return sample, [self.images[index] for index in self.indices(sample)]
