"""Checks of the JSON files alone: names, counts, pairs, and the dataset against the evaluation configs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lumirkit.data_manifests.checks.findings import Finding, error, listed, warning
from lumirkit.data_manifests.dataset import Dataset, ImageName, ManifestError, Pair
from lumirkit.data_manifests.evaluation_config import EvaluationConfig, find_evaluation_files, read_evaluation_config


def read_configs(root: Path) -> tuple[list[EvaluationConfig], list[Finding]]:
    """Read every evaluation config under root that can be read, and report each that cannot."""
    configs: list[EvaluationConfig] = []
    findings: list[Finding] = []
    files = find_evaluation_files(root)
    for path in files:
        try:
            configs.append(read_evaluation_config(path))
        except ManifestError as problem:
            reason = str(problem).removeprefix(f"{path}: ")
            findings.append(error(path.name, reason, "a usable evaluation config", "Copy the organisers' file again."))
    if not files:
        findings.append(
            warning(
                ".",
                "no *_evaluation_config.json",
                "one for each split, where fields are to be scored",
                "Copy the organisers' configs there, or score elsewhere.",
            )
        )
    for split, times in Counter(config.split for config in configs).items():
        if times > 1:
            names = listed(config.path.name for config in configs if config.split == split)
            findings.append(error(names, f"{times} configs for {split}", "one", "Move the others away."))
    return configs, findings


def check_names(dataset_json: Path, dataset: Dataset) -> list[Finding]:
    """Report image names without subject and modality, counts unlike those of the lists, and images listed twice."""
    findings = []
    images = [entry.image for entry in dataset.training]
    images += [image for pair in dataset.validation for image in (pair.fixed, pair.moving)]
    for image in dict.fromkeys(images):
        if image_name(image) is None:
            findings.append(
                error(image, "a name without subject and modality", "..._<4 digits>_<4 digits>.nii.gz", "Rename it.")
            )
    counts = [
        ("numTraining", dataset.num_training, len(dataset.training)),
        ("numValidation", dataset.num_validation, len(dataset.validation)),
    ]
    for key, stated, listed_count in counts:
        if stated is not None and stated != listed_count:
            found = f"{key} {stated}, but {listed_count} entries"
            findings.append(warning(dataset_json.name, found, "equal numbers", "Correct the number or the list."))
    for image, times in Counter(entry.image for entry in dataset.training).items():
        if times > 1:
            findings.append(
                warning(image, f"listed {times} times for training", "once", "Remove the other entries from the JSON.")
            )
    return findings


def check_pairs(dataset_json: Path, dataset: Dataset, configs: Sequence[EvaluationConfig]) -> list[Finding]:
    """Report pairs that repeat, pair an image with itself, are scored but not predicted, or the other way round."""
    findings = _odd_pairs(dataset_json.name, dataset.validation)
    predicted = set(dataset.validation)
    for config in configs:
        findings += _odd_pairs(config.path.name, config.eval_pairs)
        for pair in config.eval_pairs:
            if pair not in predicted:
                found = f"pair {_show(pair)} is scored, but not in the validation list of {dataset_json.name}"
                remedy = "Add it to the dataset JSON, or nobody predicts its field."
                findings.append(error(config.path.name, found, "every scored pair in that list", remedy))
        if config.image_shape != dataset.image_shape:
            found = f"expected_shape {config.expected_shape}"
            expected = f"{(*dataset.image_shape, 3)}, as tensorImageShape of {dataset_json.name} says"
            findings.append(error(config.path.name, found, expected, "Use the config that belongs to these images."))
    if configs:
        scored = {pair for config in configs for pair in config.eval_pairs}
        for pair in dataset.validation:
            if pair not in scored:
                found = f"pair {_show(pair)} is in no evaluation config"
                findings.append(
                    warning(dataset_json.name, found, "every validation pair scored", "Add it to a config if meant.")
                )
    return findings + _scored_twice(configs)


def _odd_pairs(file: str, pairs: Sequence[Pair]) -> list[Finding]:
    findings = []
    for pair, times in Counter(pairs).items():
        if times > 1:
            found = f"pair {_show(pair)} {times} times"
            findings.append(error(file, found, "every pair once", "Remove the repetitions."))
        if pair.fixed == pair.moving:
            found = f"{pair.fixed} paired with itself"
            findings.append(error(file, found, "two different images", "Remove or correct the pair."))
    fields: dict[str, set[Pair]] = {}
    for pair in pairs:
        if image_name(pair.fixed) and image_name(pair.moving):
            fields.setdefault(pair.field_name, set()).add(pair)
    for field, same in fields.items():
        if len(same) > 1:
            found = f"{len(same)} pairs whose field is {field}: {listed(sorted(map(_show, same)))}"
            findings.append(error(file, found, "one pair for a field", "Rename images so that their numbers differ."))
    return findings


def _scored_twice(configs: Sequence[EvaluationConfig]) -> list[Finding]:
    """Report pairs in two configs: the organisers' script gathers results by pair name, and only the last remains."""
    owners: dict[Pair, list[str]] = {}
    for config in configs:
        for pair in dict.fromkeys(config.eval_pairs):
            owners.setdefault(pair, []).append(config.path.name)
    remedy = "Remove it from the others: results are gathered by pair name, the last config overwrites the first."
    return [
        error(listed(names), f"pair {_show(pair)} in {len(names)} configs", "in one config", remedy)
        for pair, names in owners.items()
        if len(names) > 1
    ]


def image_name(image: Path) -> ImageName | None:
    """Read subject and modality off an image's name; None where it does not tell."""
    try:
        return ImageName.parse(image)
    except ManifestError:
        return None


def _show(pair: Pair) -> str:
    fixed, moving = image_name(pair.fixed), image_name(pair.moving)
    return f"{fixed}<--{moving}" if fixed and moving else f"{pair.fixed}<--{pair.moving}"
