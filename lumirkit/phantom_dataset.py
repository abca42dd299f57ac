"""A dataset of phantom subjects in the layout of the LUMIR25 challenge: files, pair list and evaluation configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lumirkit.phantom import OUT_OF_DOMAIN_T1, T2, PhantomSpec, Subject, landmark_map, make_subject
from registration.atomic import write_text_atomically
from registration.volume import write_volume


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


def _split_pairs(spec: PhantomSpec) -> dict[str, list[dict[str, str]]]:
    """The pairs of each split, keyed by the split name in the file name of its evaluation config."""

    def chain(first: int) -> list[dict[str, str]]:
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


def _evaluation_config(spec: PhantomSpec, pairs: list[dict[str, str]], labels: list[int] | None) -> dict[str, Any]:
    """Evaluation config of a split; labels None means that it is scored on landmarks."""
    methods: list[dict[str, Any]] = [{"name": "Non-diffeomorphic Volumes", "metric": "ndv"}]
    if labels is None:
        methods.append({"name": "TRE_lm", "metric": "tre", "dest": "landmarks"})
    else:
        methods += [
            {"name": "DSC", "metric": "dice", "labels": labels},
            {"name": "HD95", "metric": "hd95", "labels": labels},
        ]
    return {
        "name": "LUMIR",
        "evaluation_methods": methods,
        "expected_shape": [*spec.shape, 3],
        "eval_pairs": pairs,
        "eval_config_version": 0.0,
        "masked_evaluation": False,
    }


def _write_json_files(root: Path, spec: PhantomSpec, label_sets: dict[str, set[int]]) -> None:
    """Write the dataset JSON and the evaluation configs; label_sets: image path to the ids in its map."""
    splits = _split_pairs(spec)
    validation = [pair for pairs in splits.values() for pair in pairs]
    training = [{"image": f"./imagesTr/{Subject(n).id}.nii.gz"} for n in range(spec.n_train)]
    for name, pairs in splits.items():
        common = set.intersection(*(label_sets[image] for pair in pairs for image in pair.values()))
        labels = None if name.endswith("Landmark") else sorted(common)
        config = _evaluation_config(spec, pairs, labels)
        _write_json(root / f"LUMIR25_VAL_{name}_evaluation_config.json", config)
    _write_json(
        root / "LUMIR25_dataset.json",
        {
            "name": "LUMIR",
            "tensorImageShape": {"0": list(spec.shape)},
            "numTraining": len(training),
            "training": training,
            "numValidation": len(validation),
            "validation": validation,
        },
    )


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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
