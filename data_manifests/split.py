"""`lumirkit manifest split`: labelled training images divided into parts to train on, to validate on and to test on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.files import require_writable
from lumirkit.base.outputs import require_folder_apart
from lumirkit.data_manifests.checks.inspection import Kind, Unreadable, inspect_volume
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset, require_files
from lumirkit.data_manifests.evaluation_config import beside_image
from lumirkit.data_manifests.writer import write_dataset_json, write_evaluation_config

_DEVELOPMENT, _TEST = "development", "test"


class Part(StrEnum):
    """The use of an image."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


Parts = Mapping[Part, Sequence[Path]]


def split_dataset(root: Path, out: Path, shares: str, seed: int, listed: Path | None) -> dict[Part, int]:
    """Divide the training images of a dataset folder; the parts share no image. Returns how many images each part has.

    `out/development` trains on the first part and validates on pairs of the second; `out/test` holds pairs of the last.
    Both are dataset folders with an evaluation config; images and label maps are links to those of `root`. A pair is an
    image and the one before it in its part, the first one's being the last.

    Args:
        shares: how much training/validation/test get, such as 60/20/20; `seed` draws the order of the images.
        listed: CSV file with the columns image (a file name) and part (training, validation or test) instead.

    Raises:
        ManifestError, RequestError, VolumeError: the request cannot be carried out; nothing was written.
    """
    for part in (_DEVELOPMENT, _TEST):
        require_folder_apart(out / part, root)
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
    labels = {part: _common_labels(root, parts[part]) for part in (Part.VALIDATION, Part.TEST)}
    require_writable(out)
    _write(out / _DEVELOPMENT, root, shape, parts[Part.TRAINING], parts[Part.VALIDATION], labels[Part.VALIDATION])
    _write(out / _TEST, root, shape, [], parts[Part.TEST], labels[Part.TEST])
    return {part: len(parts[part]) for part in Part}


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


def _common_labels(root: Path, images: Sequence[Path]) -> list[int]:
    """Find the ids that every label map of a part has, in rising order."""
    return sorted(set.intersection(*(_label_ids(root, beside_image(image, "labels")) for image in images)))


def _label_ids(root: Path, labels: Path) -> set[int]:
    volume = inspect_volume(root, labels, Kind.LABELS)
    if isinstance(volume, Unreadable):
        raise VolumeError(
            f"{root / labels}: not readable ({volume.reason}); expected a whole NIfTI {volume.kind}. "
            "Copy or download it again."
        )
    if not volume.content:
        raise VolumeError(
            f"{root / labels}: found shape {volume.shape} and dtype {volume.dtype}; expected a label map of shape "
            "(X, Y, Z). Save the one volume that is meant on its own, as integers."
        )
    if volume.non_finite or volume.fractional:
        raise VolumeError(
            f"{root / labels}: found values that are not whole numbers; expected a label map of integer ids. "
            "Export it again; resample label maps with nearest neighbour."
        )
    return set(volume.values)


def _write(
    out: Path, root: Path, shape: Sequence[int], training: Sequence[Path], paired: Sequence[Path], labels: list[int]
) -> None:
    """Write one dataset folder; the dataset JSON, without which it is none, comes last."""
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
    """Make a relative link, so that both folders can be moved together."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()), target_is_directory=True)
