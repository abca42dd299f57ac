"""One case scored: the leaderboard's numbers, and the guarded ones with the reason for every inf and NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.evaluation_config import MetricEntry
from lumirkit.eval.cases import Case
from lumirkit.eval.inputs import Inputs, looks_like_half_precision
from lumirkit.eval.metrics.inverse_consistency import inverse_consistency_error
from lumirkit.eval.metrics.ndv import measure_folding
from lumirkit.eval.metrics.shared.comparison import Comparison, Maps
from lumirkit.eval.metrics.shared.warping import warp_labels
from lumirkit.eval.metrics.similarity import measure_similarity
from lumirkit.eval.metrics.tre import LandmarkErrors, centroids, landmark_errors, point_errors
from lumirkit.registration.grid import Grid

INVERSE_CONSISTENCY = "field/inverse_consistency_vox"
RUN_TIME = "field/seconds"


class Score(TypedDict):
    """One metric of one case: its mean, and the values it is the mean of (a number where there is only one)."""

    mean: float
    detailed: float | list[float]


CaseScores = dict[str, Score]  # by the name of the metric
Row = dict[str, float]  # one label or landmark: its id, and its measures


@dataclass
class CaseResult:
    """Everything measured on one case. Measures are called `<metric name>/<measure>`; the unit ends the name.

    `scores` is the organisers' reading. `measures` is the guarded one, a number a measure; `causes` says for each that
    is inf or NaN what made it so. `labels` and `landmarks` are the rows of the tables.
    """

    scores: CaseScores = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    causes: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[int, Row] = field(default_factory=dict)
    landmarks: dict[int, Row] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, measure: str, value: float, causes: Sequence[str] = ()) -> None:
        """Note a measure; the causes are kept only where it is not a finite number."""
        self.measures[measure] = float(value)
        if not math.isfinite(value):
            self.causes[measure] = list(causes)


def score_case(inputs: Inputs) -> CaseResult:
    """Score one pair with each metric of its config, in float64.

    Raises:
        VolumeError: a file is damaged, off the grid, or its content cannot be scored.
    """
    case, result = inputs.case, CaseResult()
    disp_vox = inputs.displacement()
    if looks_like_half_precision(disp_vox):
        result.warnings.append(f"{case.field}: every value is a float16 number; the challenge asks for full precision.")
    mask = inputs.mask() if case.needs_mask else np.ones(case.shape, dtype=bool)
    if case.designs:
        _score_similarity(result, inputs, disp_vox)  # before the label maps are in memory
    maps: dict[str, Maps] = {}
    comparisons: dict[tuple[str, tuple[int, ...]], Comparison] = {}
    for metric in case.metrics:
        if metric.kind == "ndv":
            _score_folding(result, metric, case, disp_vox, mask)
            continue
        if metric.folder not in maps:
            fixed, moving = inputs.maps(metric.folder)
            maps[metric.folder] = Maps(fixed, moving, warp_labels(moving, disp_vox))
        if metric.kind == "tre":
            _score_landmarks(result, metric, case, maps[metric.folder], disp_vox)
            continue
        key = metric.folder, metric.labels
        if key not in comparisons:
            comparisons[key] = Comparison.of(maps[metric.folder], metric.labels)
        (_score_overlap if metric.kind == "dice" else _score_surfaces)(result, metric, comparisons[key])
        if case.designs:
            _score_structures(result, metric, case, comparisons[key], disp_vox)
    if case.seconds is not None:
        result.add(RUN_TIME, case.seconds)
    inverse_vox = inputs.inverse_displacement()
    if inverse_vox is not None:
        result.add(INVERSE_CONSISTENCY, inverse_consistency_error(disp_vox, inverse_vox, mask))
    return result


def _score_folding(
    result: CaseResult,
    metric: MetricEntry,
    case: Case,
    disp_vox: Float[ndarray, "x y z 3"],
    mask: Bool[ndarray, "x y z"],
) -> None:
    try:
        folding = measure_folding(disp_vox, mask)
    except ValueError as error:
        raise VolumeError(f"{case.mask_image}: {error}") from error
    result.scores[metric.name] = _single(folding.percent)
    result.add(f"{metric.name}/ndv_percent", folding.percent)
    result.add(f"{metric.name}/folded_voxels", folding.folded_voxels)
    result.add(f"{metric.name}/sd_log_jacobian", folding.sd_log_jacobian)


def _score_overlap(result: CaseResult, metric: MetricEntry, comparison: Comparison) -> None:
    result.scores[metric.name] = _in_order(metric, comparison, comparison.dice)
    result.add(f"{metric.name}/dice", _mean(comparison.dice), comparison.causes())
    voxels = comparison.confusion.sum(axis=1), comparison.in_moving, comparison.confusion.sum(axis=0)
    for n, label in enumerate(comparison.ids):
        row = result.labels.setdefault(int(label), {})
        row[f"{metric.name}/dice"] = float(comparison.dice[n])
        for where, counts in zip(("fixed", "moving", "warped"), voxels, strict=True):
            row[f"{metric.name}/voxels_{where}"] = int(counts[n])


def _score_surfaces(result: CaseResult, metric: MetricEntry, comparison: Comparison) -> None:
    surfaces = comparison.surfaces
    result.scores[metric.name] = _in_order(metric, comparison, surfaces.hd95_vox)
    per_label = {
        "hd95_vox": surfaces.hd95_vox,
        "hd100_vox": surfaces.hd100_vox,
        "surface_dice": surfaces.surface_dice,
    }
    for measure, values in per_label.items():
        result.add(f"{metric.name}/{measure}", _mean(values), comparison.causes())
        for label, value in zip(comparison.ids, values, strict=True):
            result.labels.setdefault(int(label), {})[f"{metric.name}/{measure}"] = float(value)
    kept = surfaces.hd95_vox[np.isfinite(surfaces.hd95_vox)]
    result.add(f"{metric.name}/hd95_of_kept_labels_vox", _mean(kept), ["no label is left after warping"])


def _score_structures(
    result: CaseResult,
    metric: MetricEntry,
    case: Case,
    comparison: Comparison,
    disp_vox: Float[ndarray, "x y z 3"],
) -> None:
    """Note what a metric measures over its labels without label 0, and the errors of the structures' centroids."""
    chosen = comparison.structures
    if metric.kind == "dice":
        in_fixed, in_moving = (centroids(each, chosen.size)[chosen] for each in (comparison.fixed, comparison.moving))
        affine, of_place = _place(result, case.maps(metric.folder)[0])
        vox, mm = point_errors(in_fixed, in_moving, disp_vox, affine)
        measures = {"dice_without_background": comparison.dice[chosen], "centroid_vox": vox, "centroid_mm": mm}
        for label, *errors in zip(comparison.ids[chosen], vox, mm, strict=True):
            names = (f"{metric.name}/{measure}" for measure in ("centroid_vox", "centroid_mm"))
            result.labels[int(label)].update(zip(names, map(float, errors), strict=True))
    else:
        surfaces = comparison.surfaces
        measures = {
            "hd95_without_background_vox": surfaces.hd95_vox[chosen],
            "hd100_without_background_vox": surfaces.hd100_vox[chosen],
        }
        of_place = []
    for measure, values in measures.items():
        causes = [*comparison.causes(background=False), *(of_place if measure.endswith("_mm") else [])]
        result.add(f"{metric.name}/{measure}", _mean(values), causes)


def _score_similarity(result: CaseResult, inputs: Inputs, disp_vox: Float[ndarray, "x y z 3"]) -> None:
    fixed, moving = inputs.images()
    try:
        found = measure_similarity(fixed, moving, disp_vox)
    except ValueError as error:
        raise VolumeError(f"{inputs.case.fixed_image}: {error}") from error
    result.add("images/ssim", found.ssim)
    result.add("images/ncc", found.ncc, found.causes)


def _score_landmarks(
    result: CaseResult, metric: MetricEntry, case: Case, maps: Maps, disp_vox: Float[ndarray, "x y z 3"]
) -> None:
    path_fixed, _ = case.maps(metric.folder)
    affine, of_place = _place(result, path_fixed)
    try:
        errors = landmark_errors(maps.fixed, maps.moving, maps.warped, disp_vox, affine)
    except ValueError as error:
        raise VolumeError(f"{path_fixed}: {error}") from error
    result.scores[metric.name] = _single(errors.mean_tre_vox)
    per_landmark = {
        "tre_vox": errors.tre_vox,
        "tre_mm": errors.tre_mm,
        "point_vox": errors.point_vox,
        "point_mm": errors.point_mm,
    }
    for measure, values in per_landmark.items():
        causes = [*_lost_landmarks(errors), *(of_place if measure.endswith("_mm") else [])]
        result.add(f"{metric.name}/{measure}", float(values.mean()), causes)
        for landmark, value in zip(errors.landmarks, values, strict=True):
            result.landmarks.setdefault(int(landmark), {})[f"{metric.name}/{measure}"] = float(value)
    lost = ["no landmark is left after warping"]
    result.add(f"{metric.name}/tre_of_kept_landmarks_vox", _mean(errors.tre_vox), lost)


def _place(result: CaseResult, path: Path) -> tuple[Float64[ndarray, "4 4"], list[str]]:
    """The affine of a map; where it has no inverse NaN, with the reason, which is noted as a warning: the leaderboard's
    measures are in voxels and need none."""
    try:
        return Grid.from_file(path).affine, []
    except VolumeError as error:
        if str(error) not in result.warnings:
            result.warnings.append(str(error))
        return np.full((4, 4), np.nan), [str(error)]


def _lost_landmarks(errors: LandmarkErrors) -> list[str]:
    absent, lost = np.isnan(errors.point_vox), np.isnan(errors.tre_vox)
    return [
        f"landmark {landmark} {'is not in the moving map' if absent[n] else 'was lost in warping'}"
        for n, landmark in enumerate(errors.landmarks)
        if absent[n] or lost[n]
    ]


def _in_order(metric: MetricEntry, comparison: Comparison, values: Float64[ndarray, " labels"]) -> Score:
    """The organisers' form: values in the order of the config's label list, and the mean of those that are no NaN."""
    detailed = values[np.searchsorted(comparison.ids, metric.labels)]
    return {"mean": _mean(detailed), "detailed": detailed.tolist()}


def _mean(values: Float64[ndarray, " n"]) -> float:
    """Mean of the values that are no NaN; NaN where there is none."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else math.nan


def _single(value: float) -> Score:
    return {"mean": value, "detailed": value}
