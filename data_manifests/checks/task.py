"""Check of a dataset against the facts of the task that it is said to be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lumirkit.data_manifests.checks.findings import Finding, error, listed
from lumirkit.data_manifests.checks.pairs import image_name
from lumirkit.data_manifests.dataset import Dataset, ImageName, Pair
from lumirkit.data_manifests.evaluation_config import EvaluationConfig
from lumirkit.data_manifests.facts import TaskFacts

_SHOWN = 8
_REMEDY = "Use the organisers' file, or check without --task."


def check_task(
    dataset_json: Path, dataset: Dataset, configs: Sequence[EvaluationConfig], facts: TaskFacts
) -> list[Finding]:
    """Report counts, id ranges, pairs, shape and label lists that are not those of the task."""
    file = dataset_json.name
    findings = []
    if dataset.image_shape != facts.image_shape:
        found = f"tensorImageShape {dataset.image_shape}"
        findings.append(error(file, found, f"{facts.image_shape} in {facts.name}", _REMEDY))
    training = [name for entry in dataset.training if (name := image_name(entry.image))]
    findings += _compare(file, "training images", training, facts.training.images, facts.name)
    findings += _compare(file, "validation pairs", _shown(dataset.validation), _texts(facts.pairs), facts.name)
    by_split = {config.split: config for config in configs}
    for split in facts.splits if configs else ():
        config = by_split.get(split.split)
        if config is None:
            findings.append(error(".", f"no evaluation config of {split.split}", f"one in {facts.name}", _REMEDY))
            continue
        config_file = config.path.name
        findings += _compare(config_file, "pairs", _shown(config.eval_pairs), _texts(split.pairs), facts.name)
        for metric in config.metrics:
            if metric.labels:
                what = f"labels of {metric.name}"
                findings += _compare(config_file, what, metric.labels, facts.labels, facts.name)
    return findings


def _compare(file: str, what: str, found: Collection[object], expected: Collection[object], task: str) -> list[Finding]:
    """Report in one finding everything that is missing or extra in a list."""
    found_set, expected_set = set(found), set(expected)
    missing = [item for item in expected if item not in found_set]
    extra = [item for item in dict.fromkeys(found) if item not in expected_set]
    if not missing and not extra:
        return []
    parts = [f"{len(found)} {what}"]
    parts += [f"missing {_some(missing)}"] if missing else []
    parts += [f"extra {_some(extra)}"] if extra else []
    return [error(file, "; ".join(parts), f"the {len(expected)} of {task}: {_range(expected)}", _REMEDY)]


def _some(items: Sequence[object]) -> str:
    rest = len(items) - _SHOWN
    return listed(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _range(items: Collection[object]) -> str:
    in_order = list(items)
    return f"{in_order[0]} to {in_order[-1]}"


def _texts(pairs: Iterable[tuple[ImageName, ImageName]]) -> list[str]:
    return [f"{fixed}<--{moving}" for fixed, moving in pairs]


def _shown(pairs: Sequence[Pair]) -> list[str]:
    return [pair.case_name for pair in pairs if image_name(pair.fixed) and image_name(pair.moving)]
