"""`lumirkit manifest split`: labelled training images divided into parts to train on, to validate on and to test on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
from rich.console import Console

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset, require_files
from lumirkit.data_manifests.evaluation import beside_image
from lumirkit.data_manifests.writer import write_dataset_json, write_evaluation_config
from lumirkit.registration.volume import read_labels

_DEVELOPMENT, _TEST = "development", "test"


class Part(StrEnum):
    """What an image is for."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


Parts = Mapping[Part, Sequence[Path]]


def split_dataset(root: Path, out: Path, shares: str, seed: int, listed: Path | None) -> None:
    """Divide the training images of a dataset folder; the parts share no image.

    `out/development` trains on the first part and validates on pairs of the second; `out/test` holds pairs of the last.
    Both are dataset folders with an evaluation config; images and label maps are links to those of `root`. A pair is an
    image and the one before it in its part, the first one's being the last.

    Args:
        shares: of training/validation/test, such as 60/20/20; the order of the images is drawn by `seed`.
        listed: CSV file with the columns image (a file name) and part (training, validation or test) instead.

    Raises:
        ManifestError, RequestError, VolumeError: the request cannot be carried out; nothing was written.
    """
    dataset_json = find_dataset_json(root)
    dataset = read_dataset(dataset_json)
    images = [entry.image for entry in dataset.training]
    require_files(root, [*images, *(beside_image(image, "labels") for image in images)], dataset_json)
    parts = _shared_out(images, shares, seed) if listed is None else _as_listed(images, listed)
    for part in Part:
        if len(parts[part]) < 2:
            raise RequestError(
                f"{root}: {part} would have {len(parts[part])} of the {len(images)} training images; expected at least "
                "2 for a pair. Give it a larger share."
            )
    shape = dataset.image_shape
    labels = {part: _labels_of(root, parts[part]) for part in (Part.VALIDATION, Part.TEST)}
    require_writable(out)
    _write(out / _DEVELOPMENT, root, shape, parts[Part.TRAINING], parts[Part.VALIDATION], labels[Part.VALIDATION])
    _write(out / _TEST, root, shape, [], parts[Part.TEST], labels[Part.TEST])
    counts = ", ".join(f"{len(parts[part])} {part}" for part in Part)
    Console().print(f"{out}: {counts}", markup=False, highlight=False, soft_wrap=True)


def _shared_out(images: Sequence[Path], shares: str, seed: int) -> Parts:
    try:
        numbers = [float(share) for share in shares.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) != len(Part) or min(numbers) < 0 or sum(numbers) <= 0:
        raise RequestError(f"--shares {shares}: expected three numbers, training/validation/test, such as 60/20/20.")
    ends = np.rint(np.cumsum([0, *numbers]) / sum(numbers) * len(images)).astype(int)
    order = np.random.default_rng(seed).permutation(len(images))
    return {
        part: [images[index] for index in sorted(order[ends[number] : ends[number + 1]])]
        for number, part in enumerate(Part)
    }


def _as_listed(images: Sequence[Path], listed: Path) -> Parts:
    by_name = {image.name: image for image in images}
    parts: dict[Part, list[Path]] = {part: [] for part in Part}
    try:
        rows = list(csv.DictReader(listed.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{listed}: cannot be read ({error}); expected a CSV file.") from error
    for line, row in enumerate(rows, start=2):
        name, part = (row.get("image") or "").strip(), (row.get("part") or "").strip()
        if name not in by_name or part not in list(Part):
            raise RequestError(
                f"{listed}, line {line}: found image {name!r} and part {part!r}; expected the file name of a training "
                f"image that no line before has, and one of {', '.join(Part)}."
            )
        parts[Part(part)].append(by_name.pop(name))
    return parts


def _labels_of(root: Path, images: Sequence[Path]) -> list[int]:
    """The ids that every label map of a part has, in rising order."""
    return sorted(
        set.intersection(
            *(set(np.unique(read_labels(root / beside_image(image, "labels"))).tolist()) for image in images)
        )
    )


def _write(
    out: Path, root: Path, shape: Sequence[int], training: Sequence[Path], paired: Sequence[Path], labels: list[int]
) -> None:
    """One dataset folder; the dataset JSON, without which it is none, comes last."""
    for folder in sorted(
        {path.parent for image in (*training, *paired) for path in (image, beside_image(image, "labels"))}
    ):
        _link(out / folder, root / folder)
    pairs = [
        {"fixed": str(fixed), "moving": str(moving)}
        for fixed, moving in zip(paired, [paired[-1], *paired], strict=False)
    ]
    name = root.resolve().name
    write_evaluation_config(out / "LUMIR24_Segmentation_evaluation_config.json", name, shape, pairs, labels)
    write_dataset_json(out / "split_dataset.json", name, shape, [str(image) for image in training], pairs)


def _link(link: Path, target: Path) -> None:
    """A relative link, so that both folders can be moved together."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()), target_is_directory=True)
