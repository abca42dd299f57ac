"""The pairs of a dataset that one job registers, with the files each reads and writes; checked before it starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_room, require_writable
from lumirkit.base.outputs import require_apart
from lumirkit.base.screen import say_to_stderr
from lumirkit.data_manifests.dataset import Dataset, ManifestError, Pair, read_dataset, require_files


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts of a pair list."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `i/n`.

        Raises:
            RequestError: it is not two whole numbers with 1 <= i <= n.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise RequestError(f"--shard {text}: expected i/n with 1 <= i <= n, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def select(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Take every count-th pair, from the index-th on."""
        return pairs[self.index - 1 :: self.count]


@dataclass(frozen=True)
class PairFiles:
    """One pair to register: its images and the field to write."""

    case_name: str
    fixed: Path
    moving: Path
    field: Path
    shape: tuple[int, int, int] | None = None
    """The shape (X, Y, Z) that the dataset JSON promises; None where nothing does."""
    masks: tuple[Path, Path] | None = None
    """The masks of the fixed and of the moving image; what lies outside is not brain."""

    @property
    def images(self) -> str:
        """Both images, for messages."""
        return f"{self.fixed} and {self.moving}"

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that the field depends on."""
        return (self.fixed, self.moving, *(self.masks or ()))


def validation_files(dataset_json: Path, images: Path, out: Path, shard: Shard | None = None) -> list[PairFiles]:
    """List the validation pairs of a dataset JSON with their files; the fields get the evaluator's names.

    A pair that is listed twice is registered once, and one of an image with itself like any other; stderr says so, and
    names fields of other pairs that `out` holds.

    Args:
        images: folder that the JSON's paths are relative to.
        out: folder of the fields.

    Raises:
        ManifestError: the JSON cannot be used, two of its pairs would have one field, or an image is absent.
        RequestError: the shard is empty, `out` is not writable or has no room for a single field, or a field would
            replace an image.
    """
    dataset = read_dataset(dataset_json, images)
    if not dataset.validation:
        raise RequestError(f"{dataset_json}: {dataset.no_pairs}")
    pairs = (shard or Shard()).select(_different_pairs(dataset, dataset_json))
    if not pairs:
        raise RequestError(
            f"{dataset_json}: found no validation pairs for this shard, but {len(dataset.validation)} in all; "
            "expected at least one. Use fewer shards."
        )
    require_files(images, [path for pair in pairs for path in (pair.fixed, pair.moving)], dataset_json)
    shape = dataset.image_shape
    files = [
        PairFiles(pair.case_name, images / pair.fixed, images / pair.moving, out / pair.field_name, shape)
        for pair in pairs
    ]
    require_writable(out)
    _tell_of_strangers(out, dataset, dataset_json)
    require_apart([pair.field for pair in files], [dataset_json, *(path for pair in files for path in pair.inputs)])
    new = [pair.field for pair in files if not pair.field.exists()]  # those that are there may be kept
    if new:
        require_room(new[0], shape)
    return files


def _tell_of_strangers(out: Path, dataset: Dataset, dataset_json: Path) -> None:
    """Warn of fields in the output folder that belong to no pair of the dataset, such as those of another one."""
    own = {pair.field_name for pair in dataset.validation}
    strangers = sorted(field.name for field in out.glob("disp_*.nii.gz") if field.name not in own)
    if strangers:
        say_to_stderr(
            f"warning: {out}: found fields of no pair of {dataset_json}, {len(strangers)} in all, such as "
            f"{strangers[0]}; they stay as they are. Move them away, or give another --out."
        )


def _different_pairs(dataset: Dataset, dataset_json: Path) -> list[Pair]:
    """The pairs, each once; what is odd about them goes to stderr."""
    by_field: dict[str, Pair] = {}
    for pair in dict.fromkeys(dataset.validation):
        other = by_field.setdefault(pair.field_name, pair)
        if other != pair:
            raise ManifestError(
                f"{dataset_json}: found two pairs whose field is {pair.field_name}, {other.fixed}<--{other.moving} and "
                f"{pair.fixed}<--{pair.moving}; expected one. Rename images so that their numbers differ."
            )
    counts = Counter(dataset.validation)
    odd = [
        f"{pair.case_name} is listed {times} times, and registered once" for pair, times in counts.items() if times > 1
    ]
    odd += [f"{pair.case_name} is an image with itself" for pair in counts if pair.fixed == pair.moving]
    for remark in odd:
        say_to_stderr(f"warning: {dataset_json}: the pair {remark}")
    return list(counts)
