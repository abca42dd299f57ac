"""Scored cases kept on disk, so that interrupted scoring continues and only what changed is scored again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from lumirkit.base.files import write_text_atomically
from lumirkit.data_manifests.evaluation_config import Split
from lumirkit.eval.cases import Case
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.scoring import CaseResult

# Belongs to the numbers in a kept result: change it whenever the same files give other ones.
SCORING_VERSION = "2"


def result_key(inputs: Inputs) -> str:
    """SHA-256 of everything a case's result depends on: the content of all its files, the config, options, version."""
    case = inputs.case
    depends_on = {
        "version": SCORING_VERSION,
        "methods": [metric.model_dump(by_alias=True) for metric in case.metrics],
        "shape": case.shape,
        "mask rule": case.mask_rule,
        "designs": case.designs,
        "seconds": case.seconds,
        "field": "zero" if case.field is None else "file",
        "files": inputs.hashes(),
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def find_result(folder: Path, case: Case, key: str) -> CaseResult | None:
    """The kept result of a case, None where there is none or it is of another key or damaged."""
    try:
        kept = json.loads(_path(folder, case).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        return None
    result = CaseResult(**kept["result"])
    # JSON knows no number as a key.
    result.labels = {int(label): row for label, row in result.labels.items()}
    result.landmarks = {int(landmark): row for landmark, row in result.landmarks.items()}
    return result


def keep_result(folder: Path, case: Case, key: str, result: CaseResult) -> None:
    """Write a case's result, over that of another key."""
    write_text_atomically(_path(folder, case), json.dumps({"key": key, "result": asdict(result)}))


def _path(folder: Path, case: Case) -> Path:
    split = case.split.name.lower() if isinstance(case.split, Split) else case.split
    return folder / f"{split}_{case.pair.fixed_name}_{case.pair.moving_name}.json"
