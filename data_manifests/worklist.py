"""The pairs of a dataset that one job registers, with the files each reads and writes; checked before it starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable
from lumirkit.data_manifests.dataset import Pair, read_dataset, require_files


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
    def inputs(self) -> tuple[Path, ...]:
        """All files that the field depends on."""
        return (self.fixed, self.moving, *(self.masks or ()))


def validation_files(dataset_json: Path, images: Path, out: Path, shard: Shard | None = None) -> list[PairFiles]:
    """List the validation pairs of a dataset JSON with their files; the fields get the evaluator's names.

    Args:
        images: folder that the JSON's paths are relative to.
        out: folder of the fields.

    Raises:
        ManifestError: the JSON cannot be used or an image is absent.
        RequestError: the shard is empty or `out` is not writable.
    """
    dataset = read_dataset(dataset_json)
    pairs = (shard or Shard()).select(dataset.validation)
    if not pairs:
        raise RequestError(f"{dataset_json}: found no validation pairs for this shard; expected at least one.")
    require_files(images, [path for pair in pairs for path in (pair.fixed, pair.moving)], dataset_json)
    files = [
        PairFiles(pair.case_name, images / pair.fixed, images / pair.moving, out / pair.field_name, dataset.image_shape)
        for pair in pairs
    ]
    require_writable(out)
    return files
