"""Training images, and the pairs and triplets drawn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from lumirkit.base.errors import VolumeError
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset, require_files
from lumirkit.data_manifests.evaluation_config import beside_image
from lumirkit.registration.volume import read_header, read_image, read_labels
from lumirkit.train.augment import Appearance, Augmentation, draw_appearance
from lumirkit.train.image_store import open_store
from lumirkit.train.processes import Processes

_LISTED_PROBLEMS = 10

Item = TypeVar("Item")


class TrainingImages:
    """The training images of a dataset folder, all decoded before training starts, once for all processes of a node.

    They are kept as uint8 where the files are, else rounded to float16.
    """

    def __init__(
        self,
        root: Path,
        processes: Processes | None = None,
        cache: Path | None = None,
        subset: Subset | None = None,
        with_labels: bool = False,
    ) -> None:
        """Read the folder's dataset JSON and decode the images it lists.

        Args:
            cache: folder for the decoded images; None for memory, or the disk where memory is short.
            subset: which of the images, and in which order few are drawn from them; None for all.
            with_labels: decode their label maps, too.

        Raises:
            ManifestError: the JSON or a listed image is missing.
            VolumeError: there are too few images, or some cannot be used; all of those are named.
            StoreError: there is no room for the decoded images.
        """
        path = find_dataset_json(root)
        dataset = read_dataset(path)
        listed = [entry.image for entry in dataset.training]
        if len(listed) < 2:
            raise VolumeError(
                f"{path}: lists {len(listed)} training images; expected at least 2 for a pair, under the key training."
            )
        drawn = (subset or Subset()).draw(len(listed), path)
        kept = sorted(drawn)
        self._drawn = [kept.index(index) for index in drawn]
        listed = [listed[index] for index in kept]
        maps = [beside_image(image, "labels") for image in listed] if with_labels else []
        require_files(root, [*listed, *maps], path)
        self.source = path
        self.shape = dataset.image_shape
        self.paths: Sequence[Path] = [root / image for image in listed]
        self._processes, self._cache = processes or Processes(torch.device("cpu")), cache
        self._hashes: dict[Path, str] = {}
        self._decoded = self._decode_all(self.paths, self._image_dtype(), _decode_image, "reading images")
        self._maps: NDArray[np.generic] | None = None
        if with_labels:
            paths = [root / each for each in maps]
            self._maps = self._decode_all(paths, np.dtype(np.int16), _decode_labels, "reading label maps")
        lines = [f"{file.as_posix()} {self._hashes[root / file]}\n" for file in [*listed, *maps]]
        self.sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
        """The hash of the names, the order and the contents of all files, wherever the dataset folder lies."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Shaped[Tensor, "1 x y z"]:
        """The image `index`, uint8 or float16, intensities as in the file; it is a view of what all processes share."""
        return torch.from_numpy(self._decoded[index])[None]

    def few(self, count: int | None) -> list[int]:
        """The indices of the first `count` images that the subset's seed draws: fewer are among more; None: all."""
        return sorted(self._drawn[:count])

    def labels(self, index: int) -> Shaped[Tensor, "1 x y z"]:
        """The label map of the image `index`, int16; it is there only where the label maps were decoded."""
        assert self._maps is not None
        return torch.from_numpy(self._maps[index])[None]

    def _image_dtype(self) -> np.dtype[np.generic]:
        """The number format that all images are kept in, found in their headers."""
        checks = (joblib.delayed(_attempt)(_stored_dtype, path, self.shape) for path in self._own(self.paths))
        dtypes = _all_or_none(list(self._reading()(checks)), self._processes)
        return np.dtype(np.uint8 if set(dtypes) == {np.dtype(np.uint8)} else np.float16)

    def _decode_all(
        self, paths: Sequence[Path], dtype: np.dtype[np.generic], decode: Callable[..., None], description: str
    ) -> NDArray[np.generic]:
        """Decode all files into one array and note their hashes; this process reads its own share of them."""
        decoded = open_store(len(paths), self.shape, dtype, self._processes, self._cache)
        own = list(zip(self._own(paths), self._own(decoded), strict=True))
        read = []
        with Progress(len(own), description, silent=not self._processes.is_first) as progress:
            calls = (joblib.delayed(_attempt)(_decode_and_hash, decode, path, into) for path, into in own)
            for result in self._reading()(calls):
                read.append(result)
                progress.advance()
        self._hashes |= dict(_all_or_none(read, self._processes))
        return decoded

    def _own(self, shared: Sequence[Item] | NDArray[np.generic]) -> Sequence[Item] | NDArray[np.generic]:
        """The part of the node's shared work that this process does."""
        return shared[self._processes.local_rank :: self._on_node]

    @cached_property
    def _on_node(self) -> int:
        return len(self._processes.gather_on_node(0))

    def _reading(self) -> joblib.Parallel:
        threads = max(1, joblib.cpu_count() // self._on_node)
        return joblib.Parallel(n_jobs=threads, prefer="threads", return_as="generator_unordered")


@dataclass(frozen=True)
class Subset:
    """The first `count` of the training images (None for all) in an order that `seed` draws."""

    count: int | None = None
    seed: int = 0

    def draw(self, listed: int, source: Path) -> list[int]:
        """The numbers of the chosen images, in the order drawn.

        Raises:
            VolumeError: there are fewer.
        """
        if self.count is not None and listed < self.count:
            raise VolumeError(
                f"{source}: lists {listed} training images; the recipe asks for n_images={self.count}. Lower it."
            )
        order: list[int] = np.random.default_rng(self.seed).permutation(listed).tolist()
        return order[: self.count]


def _stored_dtype(path: Path, shape: tuple[int, int, int]) -> np.dtype[np.generic]:
    header = read_header(path)
    if header.shape != shape:
        raise VolumeError(f"{path}: found shape {header.shape}; expected {shape} as in the dataset JSON.")
    return header.dtype


def _decode_and_hash(decode: Callable[..., None], path: Path, into: NDArray[np.generic]) -> tuple[Path, str]:
    """Read a file once, decode it, and give its path and the hash of what was read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VolumeError(
            f"{path}: cannot be read ({error.strerror}); expected a NIfTI image. Check the disk."
        ) from error
    decode(path, content, into)
    return path, hashlib.sha256(content).hexdigest()


def _decode_image(path: Path, content: bytes, into: NDArray[np.generic]) -> None:
    image = read_image(path, content)
    if into.dtype == np.float16 and np.abs(image.data).max() > np.finfo(np.float16).max:
        raise VolumeError(f"{image.name}: found intensities beyond 65504; expected 0…255. Rescale the image.")
    into[...] = image.data


def _decode_labels(path: Path, content: bytes, into: NDArray[np.generic]) -> None:
    labels = read_labels(path, content)
    if labels.shape != into.shape:
        raise VolumeError(f"{path}: found shape {labels.shape}; expected {into.shape}, that of the training images.")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int16).max:
        raise VolumeError(f"{path}: found ids {labels.min()} to {labels.max()}; expected 0 to 32767.")
    into[...] = labels


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
    everywhere = list(chain.from_iterable(processes.gather(list(results))))
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

    def __init__(
        self, images: TrainingImages, seed: int, stage: int, group: int = 2, n_images: int | None = None
    ) -> None:
        """Draw `group` images a sample, from `n_images` of them (None for all).

        Raises:
            VolumeError: there are fewer images than a group has.
        """
        self._few = images.few(n_images)
        if len(self._few) < group:
            raise VolumeError(
                f"{images.source}: a stage has {len(self._few)} training images; with group consistency it draws "
                f"{group} different ones at a time. Add images, or set its group_consistency_weight to 0."
            )
        self.images, self.seed, self.stage, self.group = images, seed, stage, group

    def indices(self, sample: int) -> tuple[int, ...]:
        """The indices of a sample's images, (fixed, moving) in a pair.

        Every ordered group is equally likely, and none repeats an image.
        """
        generator = np.random.default_rng([self.seed, self.stage, sample])
        chosen: list[int] = []
        for remaining in range(len(self._few), len(self._few) - self.group, -1):
            index = int(generator.integers(remaining))
            for taken in sorted(chosen):
                index += index >= taken
            chosen.append(index)
        return tuple(self._few[index] for index in chosen)

    def appearances(self, sample: int, ranges: Augmentation) -> list[Appearance]:
        """What is done to each image of a sample before the network sees it."""
        generator = np.random.default_rng([self.seed, self.stage, sample, 1])
        return [draw_appearance(ranges, generator) for _ in range(self.group)]

    def source(self, step: int, shares: Sequence[float]) -> int | None:
        """The number of the source, among those with these shares, that a step takes pairs from; None: real pairs.

        All samples of a step, and all processes, agree.
        """
        drawn = np.random.default_rng([self.seed, self.stage, step, 2]).random()
        return next((number for number, end in enumerate(accumulate(shares)) if drawn < end), None)

    def names(self, samples: Iterable[int]) -> str:
        """The files of some samples, for messages."""
        return "; ".join(
            ", ".join(self.images.paths[index].name for index in self.indices(sample)) for sample in samples
        )

    def batch(self, samples: Iterable[int], group: int | None = None) -> list[Shaped[Tensor, "batch 1 x y z"]]:
        """The images of some samples, one batch a place in the group, as they are kept (uint8 or float16).

        Args:
            group: how many of each sample's images; None for all.
        """
        return self._stacked(self.images.__getitem__, samples, group)

    def labels(self, samples: Iterable[int], group: int | None = None) -> list[Shaped[Tensor, "batch 1 x y z"]]:
        """The label maps of `batch`'s images (int16)."""
        return self._stacked(self.images.labels, samples, group)

    def _stacked(self, read: Callable[[int], Tensor], samples: Iterable[int], group: int | None) -> list[Tensor]:
        groups = [[read(index) for index in self.indices(sample)[:group]] for sample in samples]
        return [torch.stack(place) for place in zip(*groups, strict=True)]
