"""Training images, and the pairs and triplets drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from data_manifests.dataset import find_dataset_json, read_dataset, require_files
from registration.progress import Progress
from registration.volume import VolumeError, read_header, read_image
from train.augment import Appearance, Augmentation, draw_appearance
from train.image_store import open_store
from train.processes import Processes

_LISTED_PROBLEMS = 10

Item = TypeVar("Item")


class TrainingImages:
    """The training images of a dataset folder, all decoded before training starts, once for all processes of a node.

    They are kept as uint8 where the files are, else rounded to float16.
    """

    def __init__(self, root: Path, processes: Processes | None = None, cache: Path | None = None) -> None:
        """Read the folder's dataset JSON and decode the images it lists.

        Args:
            cache: folder for the decoded images; None for memory, or the disk where memory is short.

        Raises:
            ManifestError: the JSON or a listed image is missing.
            VolumeError: there are fewer than two images, or some cannot be used; all of those are named.
            StoreError: there is no room for the decoded images.
        """
        path = find_dataset_json(root)
        dataset = read_dataset(path)
        require_files(root, [entry.image for entry in dataset.training], path)
        if len(dataset.training) < 2:
            raise VolumeError(f"{path}: lists {len(dataset.training)} training images; expected at least 2 for a pair.")
        self.source = path
        self.shape = dataset.image_shape
        self.paths: Sequence[Path] = [root / entry.image for entry in dataset.training]
        self._decoded = self._decode_all(processes or Processes(torch.device("cpu")), cache)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Shaped[Tensor, "1 x y z"]:
        """One image, uint8 or float16, intensities as in the file; a view of what all processes share."""
        return torch.from_numpy(self._decoded[index])[None]

    def _decode_all(self, processes: Processes, cache: Path | None) -> NDArray[np.generic]:
        on_node = len(processes.of_my_node(0))
        own = range(processes.local_rank, len(self), on_node)
        reading = joblib.Parallel(
            n_jobs=max(1, joblib.cpu_count() // on_node), prefer="threads", return_as="generator_unordered"
        )
        checks = (joblib.delayed(_attempt)(self._stored_dtype, index) for index in own)
        dtypes = _all_or_none(list(reading(checks)), processes)
        dtype = np.uint8 if set(dtypes) == {np.dtype(np.uint8)} else np.float16
        decoded = open_store(len(self), self.shape, dtype, processes, cache)
        problems = []
        with Progress(len(own), "reading images", silent=not processes.is_first) as progress:
            for problem in reading(joblib.delayed(_attempt)(self._decode, index, decoded) for index in own):
                problems.append(problem)
                progress.advance()
        _all_or_none(problems, processes)
        return decoded

    def _stored_dtype(self, index: int) -> np.dtype[np.generic]:
        header = read_header(self.paths[index])
        if header.shape != self.shape:
            raise VolumeError(
                f"{self.paths[index]}: found shape {header.shape}; expected {self.shape} as in the dataset JSON."
            )
        return header.dtype

    def _decode(self, index: int, decoded: NDArray[np.generic]) -> None:
        image = read_image(self.paths[index])
        if decoded.dtype == np.float16 and np.abs(image.data).max() > np.finfo(np.float16).max:
            raise VolumeError(f"{image.path}: found intensities beyond 65504; expected 0…255. Rescale the image.")
        decoded[index] = image.data


def _attempt(read: Callable[..., Item], *arguments: object) -> Item | VolumeError:
    """What `read` returns, or the reason why it returns nothing: one bad file must not hide the others."""
    try:
        return read(*arguments)
    except VolumeError as error:
        return error


def _all_or_none(results: Sequence[Item | VolumeError], processes: Processes) -> list[Item]:
    """The results of all processes.

    Raises:
        VolumeError: in every process, if one met a file that cannot be used.
    """
    everywhere = [result for of_one in processes.all_of(list(results)) for result in of_one]
    problems = sorted(str(result) for result in everywhere if isinstance(result, VolumeError))
    if problems:
        more = len(problems) - _LISTED_PROBLEMS
        lines = problems[:_LISTED_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        count = "1 training image" if len(problems) == 1 else f"{len(problems)} training images"
        raise VolumeError("\n  ".join([f"{count} cannot be used, so nothing was started:", *lines]))
    return [result for result in everywhere if not isinstance(result, VolumeError)]


class GroupSampler:
    """Random ordered pairs or triplets of different images; sample i depends on (seed, stage, i) alone.

    Whatever the number of processes, and wherever an interrupted run continues, the samples are the same.
    """

    def __init__(self, images: TrainingImages, seed: int, stage: int, group: int = 2) -> None:
        """Draw `group` images a sample.

        Raises:
            VolumeError: there are fewer images than a group has.
        """
        if len(images) < group:
            raise VolumeError(
                f"{images.source}: lists {len(images)} training images; a stage with group consistency draws {group} "
                "different ones at a time. Add images, or set its group_consistency_weight to 0."
            )
        self.images, self.seed, self.stage, self.group = images, seed, stage, group

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

    def is_synthetic(self, step: int, share: float) -> bool:
        """Whether a step takes generated pairs; all samples of a step, and all processes, agree."""
        return bool(np.random.default_rng([self.seed, self.stage, step, 2]).random() < share)

    def names(self, samples: Iterable[int]) -> str:
        """The files of some samples, for messages."""
        return "; ".join(
            ", ".join(self.images.paths[index].name for index in self.indices(sample)) for sample in samples
        )

    def batch(self, samples: Iterable[int]) -> list[Shaped[Tensor, "batch 1 x y z"]]:
        """The images of some samples, one batch a place in the group, as they are kept (uint8 or float16)."""
        groups = [[self.images[index] for index in self.indices(sample)] for sample in samples]
        return [torch.stack(place) for place in zip(*groups, strict=True)]
