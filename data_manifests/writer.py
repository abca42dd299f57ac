"""Writing dataset folders in the challenge's layout: the dataset JSON and the evaluation configs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumirkit.base.files import write_text_atomically

PairPaths = dict[str, str]
"""The paths `fixed` and `moving` of a pair, relative to the dataset's folder."""


def write_evaluation_config(
    path: Path, name: str, shape: Sequence[int], pairs: Sequence[PairPaths], labels: Sequence[int] | None
) -> None:
    """Write the evaluation config of a split, which is scored on its labels, or on landmarks where these are None."""
    methods: list[dict[str, Any]] = [{"name": "Non-diffeomorphic Volumes", "metric": "ndv"}]
    if labels is None:
        methods.append({"name": "TRE_lm", "metric": "tre", "dest": "landmarks"})
    else:
        methods += [
            {"name": "DSC", "metric": "dice", "labels": labels},
            {"name": "HD95", "metric": "hd95", "labels": labels},
        ]
    _write_json(
        path,
        {
            "name": name,
            "evaluation_methods": methods,
            "expected_shape": [*shape, 3],
            "eval_pairs": pairs,
            "eval_config_version": 0.0,
            "masked_evaluation": False,
        },
    )


def write_dataset_json(
    path: Path, name: str, shape: Sequence[int], training: Sequence[str], pairs: Sequence[PairPaths]
) -> None:
    """Write the dataset JSON: images to train on, and pairs to validate on."""
    _write_json(
        path,
        {
            "name": name,
            "tensorImageShape": {"0": list(shape)},
            "numTraining": len(training),
            "training": [{"image": image} for image in training],
            "numValidation": len(pairs),
            "validation": pairs,
        },
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
