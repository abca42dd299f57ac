"""Checks of label and landmark maps against the evaluation configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lumirkit.data_manifests.checks.findings import Finding, error, listed, warning
from lumirkit.data_manifests.checks.inspection import Kind, VolumeSummary
from lumirkit.data_manifests.evaluation_config import EvaluationConfig, MetricEntry, beside_image
from lumirkit.data_manifests.structures import structure_name, structures

Volumes = Mapping[Path, VolumeSummary]


def required_maps(configs: Sequence[EvaluationConfig]) -> dict[Path, Kind]:
    """List the maps without which a config cannot be scored, relative to the dataset folder."""
    maps: dict[Path, Kind] = {}
    for config in configs:
        for metric in _on_maps(config):
            kind = Kind.LANDMARKS if metric.kind == "tre" else Kind.LABELS
            for pair in config.eval_pairs:
                maps |= {beside_image(image, metric.folder): kind for image in (pair.fixed, pair.moving)}
    return maps


def check_whole_numbers(volume: VolumeSummary) -> list[Finding]:
    """Report a label or landmark map with other values than whole numbers, or with nothing but 0."""
    if volume.kind is Kind.IMAGE or not volume.content:
        return []
    findings = []
    if volume.non_finite or volume.fractional:
        found = f"{volume.non_finite + volume.fractional} voxels are not whole numbers"
        remedy = "Export it again; resample label maps with nearest neighbour."
        findings.append(error(volume.path, found, f"a {volume.kind} of integer ids", remedy))
    if not any(volume.values):
        expected = f"a {volume.kind} with ids above 0"
        findings.append(error(volume.path, "every voxel is 0", expected, "Export it again."))
    return findings


def check_label_ids(configs: Sequence[EvaluationConfig], volumes: Volumes) -> list[Finding]:
    """Report ids that no list knows, known ids that are not scored, and scored ids that a map lacks.

    Args:
        configs: the evaluation configs.
        volumes: the readable maps by path; those with voxels that are no whole numbers are left to another check.
    """
    scored: dict[Path, set[int]] = {}
    for config in configs:
        for metric in _on_maps(config):
            if metric.kind != "tre":
                for image in (image for pair in config.eval_pairs for image in (pair.fixed, pair.moving)):
                    scored.setdefault(beside_image(image, metric.folder), set()).update(metric.labels)
    known = set(structures()).union(*scored.values())
    findings = []
    for path, volume in volumes.items():
        if volume.kind is Kind.LABELS and volume.content and not volume.fractional:
            findings += _label_ids(volume, scored.get(path), known)
    return findings


def _label_ids(volume: VolumeSummary, scored: set[int] | None, known: set[int]) -> list[Finding]:
    findings, present = [], set(volume.values)
    if strange := sorted(present - known):
        remedy = "Map the ids to the list's; ids between those of neighbours come from interpolated labels."
        findings.append(
            error(volume.path, f"label ids {listed(strange)}", "ids of the configs or of the protocol", remedy)
        )
    if scored is None or not any(present):
        return findings
    if unscored := sorted((present & known) - scored - {0}):
        found = f"labels that its configs do not score: {_names(unscored)}"
        findings.append(warning(volume.path, found, "ids of the config", "Nothing, if that is meant."))
    if absent := sorted(scored - present):
        found = f"without the scored labels {_names(absent)}"
        remedy = "Nothing, if the structure is truly absent; it is left out of the pair's mean."
        findings.append(warning(volume.path, found, "every id of the config", remedy))
    return findings


def check_landmark_pairs(configs: Sequence[EvaluationConfig], volumes: Volumes) -> list[Finding]:
    """Report pairs with unlike landmarks: one that the moving image lacks makes the pair's TRE NaN."""
    findings = []
    for config in configs:
        for metric in _on_maps(config):
            if metric.kind != "tre":
                continue
            for pair in config.eval_pairs:
                fixed = volumes.get(beside_image(pair.fixed, metric.folder))
                moving = volumes.get(beside_image(pair.moving, metric.folder))
                if fixed and moving and _has_landmarks(fixed) and _has_landmarks(moving):
                    findings += _landmark_pair(fixed, moving)
    return findings


def _has_landmarks(volume: VolumeSummary) -> bool:
    """Tell whether the values can be compared; where they cannot, `check_whole_numbers` says why."""
    return any(volume.values) and not volume.fractional


def _landmark_pair(fixed: VolumeSummary, moving: VolumeSummary) -> list[Finding]:
    findings = []
    if lost := sorted(set(fixed.values) - set(moving.values) - {0}):
        found = f"without the landmarks {listed(lost)} of the fixed image's {fixed.path}"
        remedy = "Add them, or remove them from the fixed map; the pair's TRE is NaN otherwise."
        findings.append(error(moving.path, found, "the same landmark values in both maps of a pair", remedy))
    if unused := sorted(set(moving.values) - set(fixed.values) - {0}):
        found = f"landmarks {listed(unused)} that the fixed image's {fixed.path} lacks"
        remedy = "Nothing, if that is meant; they are not scored."
        findings.append(warning(moving.path, found, "the same landmark values in both maps of a pair", remedy))
    return findings


def _on_maps(config: EvaluationConfig) -> list[MetricEntry]:
    return [metric for metric in config.metrics if metric.kind != "ndv"]


def _names(labels: Sequence[int]) -> str:
    return listed(f"{label} ({structure_name(label)})" if label in structures() else label for label in labels)
