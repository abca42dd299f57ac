"""A dataset of phantom subjects in the layout of the LUMIR25 challenge: files, pair list and evaluation configs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lumirkit.data_manifests.writer import PairPaths, write_dataset_json, write_evaluation_config
from lumirkit.phantoms.brains import OUT_OF_DOMAIN_T1, T2, PhantomSpec, Subject, landmark_map, make_subject
from lumirkit.registration.volume import write_volume

_TASK = "LUMIR"


def subjects(spec: PhantomSpec) -> list[Subject]:
    """All subjects of the dataset, in the order in which they are written."""
    pairs = spec.pairs_per_split
    return [
        *(Subject(n, split="Tr") for n in range(spec.n_train)),
        *(Subject(n) for n in range(3454, 3455 + pairs)),
        *(Subject(n, landmarks=True) for n in range(3484, 3485 + pairs)),
        *(Subject(n, contrast=OUT_OF_DOMAIN_T1) for n in range(4014, 4015 + pairs)),
        *(Subject(n) for n in range(4024, 4024 + pairs)),
        *(Subject(n, modality=1, contrast=T2) for n in range(4033, 4033 + pairs)),
    ]


def _image(number: int, modality: int = 0) -> str:
    return f"./imagesVal/{Subject(number, modality).id}.nii.gz"


def _split_pairs(spec: PhantomSpec) -> dict[str, list[PairPaths]]:
    """The pairs of each split, keyed by the split name in the file name of its evaluation config."""

    def chain(first: int) -> list[PairPaths]:
        numbers = range(first, first + spec.pairs_per_split)
        return [{"fixed": _image(n), "moving": _image(n - 1)} for n in numbers]

    return {
        "LUMIR24_Landmark": chain(3485),
        "LUMIR24_Segmentation": chain(3455),
        "HighField_Segmentation": chain(4015),
        "MultiModal_Segmentation": [
            {"fixed": _image(4024 + i), "moving": _image(4033 + i, 1)} for i in range(spec.pairs_per_split)
        ],
    }


def _write_json_files(root: Path, spec: PhantomSpec, label_sets: dict[str, set[int]]) -> None:
    """Write the dataset JSON and the evaluation configs; label_sets: image path to the ids in its map."""
    splits = _split_pairs(spec)
    for name, pairs in splits.items():
        common = set.intersection(*(label_sets[image] for pair in pairs for image in pair.values()))
        labels = None if name.endswith("Landmark") else sorted(common)
        write_evaluation_config(root / f"LUMIR25_VAL_{name}_evaluation_config.json", _TASK, spec.shape, pairs, labels)
    validation = [pair for pairs in splits.values() for pair in pairs]
    training = [f"./imagesTr/{Subject(n).id}.nii.gz" for n in range(spec.n_train)]
    write_dataset_json(root / "LUMIR25_dataset.json", _TASK, spec.shape, training, validation)


def make_dataset(root: Path, spec: PhantomSpec, on_subject: Callable[[str], None] | None = None) -> None:
    """Write a phantom dataset in the LUMIR25 layout under root; the same spec gives the same bytes.

    root is created. Images, labels and landmarks are uint8 of spec.shape, affine identity (1 mm, RAS).
    on_subject is called with the id of each subject once its files are there; the JSON files come last.
    Raises OSError where root cannot be written and RuntimeError where a deformation of the spec folds.
    """
    label_sets: dict[str, set[int]] = {}
    for subject in subjects(spec):
        image, labels = make_subject(spec, subject)
        name = f"{subject.id}.nii.gz"
        write_volume(root / f"images{subject.split}" / name, image, np.eye(4))
        write_volume(root / f"labels{subject.split}" / name, labels, np.eye(4))
        if subject.landmarks:
            write_volume(root / "landmarksVal" / name, landmark_map(labels), np.eye(4))
        label_sets[f"./images{subject.split}/{name}"] = {int(label) for label in np.unique(labels)}
        if on_subject is not None:
            on_subject(subject.id)
    _write_json_files(root, spec, label_sets)
