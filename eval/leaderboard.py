"""The LUMIR leaderboard: every pair of a ground-truth folder scored, and the aggregates the organisers print.

Follows the organisers' evaluation container, version 3.0, including the form of its JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from jaxtyping import Float64, Int32
from joblib import Parallel, delayed
from numpy import ndarray

from data_manifests.dataset import ManifestError
from data_manifests.evaluation import EvaluationMethod, Split, find_evaluation_configs
from eval.cases import Case, EvaluationError, check_cases, list_cases, raise_problems
from eval.folding import non_diffeomorphic_percentage
from eval.landmarks import target_registration_error
from eval.overlap import dice_per_label
from eval.surface import hd95_per_label
from eval.warping import warp_labels
from registration.progress import Progress
from registration.volume import VolumeError, read_displacement, read_image, read_labels

EVAL_VERSION = "3.0"

# The key of each segmentation split among the aggregates.
DICE_KEYS = {Split.IN_DOMAIN: "ID_dice", Split.OUT_OF_DOMAIN: "OOD_dice", Split.MULTI_MODAL: "MM_dice"}


class Score(TypedDict):
    """One metric of one case: its mean, and the values it is the mean of (a number where there is only one)."""

    mean: float
    detailed: float | list[float]


CaseScores = dict[str, Score]  # by the name of the evaluation method
Aggregate = dict[str, float]  # "mean", "std" (population) and "30", the value that 70 % of the cases reach


@dataclass(frozen=True)
class LeaderboardResult:
    """Scores of all cases, by case name, and their aggregates, by metric name."""

    name: str
    cases: dict[str, CaseScores]
    aggregates: dict[str, Aggregate]
    metrics: dict[str, str]
    """The kind of each metric name: "ndv", "dice", "hd95" or "tre"."""

    def to_json(self) -> str:
        """The organisers' metrics.json; NaN and Infinity stand as Python's json writes them."""
        content = {
            "name": self.name,
            "aggregates": self.aggregates,
            "cases": self.cases,
            "eval_version": EVAL_VERSION,
        }
        return json.dumps(content, indent=4)


def evaluate(
    ground_truth: Path, fields: Path | None, workers: int = 1, description: str = "scoring"
) -> LeaderboardResult:
    """Score displacement fields against a ground-truth folder; the result does not depend on `workers`.

    Args:
        ground_truth: folder with `*_evaluation_config.json`, images, labels and landmarks.
        fields: folder with `disp_<fixed>_<moving>.nii.gz`; None scores zero displacement.
        workers: processes that score one case each, at once.
        description: what the progress display calls the work.

    Raises:
        EvaluationError: anything is missing, unreadable or of the wrong shape; one line a problem. What file names and
            headers tell is checked before the first case is scored.
    """
    if workers < 1:
        raise EvaluationError(f"found {workers} workers; expected at least 1.")
    if fields is not None and not fields.is_dir():
        raise EvaluationError(f"{fields}: no such folder; expected the displacement fields. Check the path.")
    try:
        configs = find_evaluation_configs(ground_truth)
    except ManifestError as error:
        raise EvaluationError(str(error)) from error
    cases = list_cases(configs, ground_truth, fields)
    check_cases(cases)
    scores = _score_all(cases, workers, description)
    kinds = {method.name: method.metric for config in configs for method in config.evaluation_methods}
    return summarise(configs[-1].name, list(zip(cases, scores, strict=True)), kinds)


def score_case(case: Case) -> CaseScores:
    """Score one pair with each method of its config, in float64.

    Raises:
        VolumeError: a file is damaged or its content cannot be scored.
    """
    disp_vox = np.zeros((*case.shape, 3)) if case.field is None else read_displacement(case.field, case.shape)
    maps: dict[str, _Maps] = {}
    scores: CaseScores = {}
    for method in case.methods:
        if method.metric == "ndv":
            scores[method.name] = _single(_folding(case, disp_vox))
        else:
            if method.folder not in maps:
                maps[method.folder] = _read_maps(case, method.folder, disp_vox)
            scores[method.name] = _score_maps(method, maps[method.folder])
    return scores


def summarise(name: str, scored: Sequence[tuple[Case, CaseScores]], kinds: Mapping[str, str]) -> LeaderboardResult:
    """Merge the cases of all configs by name and aggregate them.

    Args:
        name: the task's name.
        scored: cases in the order of the configs, with their scores.
        kinds: metric ("ndv", "dice", "hd95", "tre") of each method name.
    """
    # As in the organisers' script, a case in two configs keeps the place of the first and the scores of the last.
    cases = {case.name: scores for case, scores in scored}
    aggregates = {
        metric: aggregate(_means(cases.values(), metric), high_is_worse=kinds[metric] == "tre")
        for metric in sorted({metric for scores in cases.values() for metric in scores})
    }
    for split, key in DICE_KEYS.items():
        of_split = {case.name: scores for case, scores in scored if case.split is split}
        dice = [mean for metric in kinds if kinds[metric] == "dice" for mean in _means(of_split.values(), metric)]
        if dice:
            aggregates[key] = aggregate(dice, high_is_worse=False)
    return LeaderboardResult(name, cases, aggregates, dict(kinds))


def aggregate(values: Sequence[float], high_is_worse: bool) -> Aggregate:
    """Mean, population standard deviation and the 0.3 quantile (0.7 where `high_is_worse`) over cases."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf: a standard deviation of NaN is the organisers' answer too
        return {
            "mean": float(array.mean()),
            "std": float(array.std()),
            "30": float(np.quantile(array, 0.7 if high_is_worse else 0.3)),
        }


@dataclass(frozen=True)
class _Maps:
    """Label maps or landmarks of one pair, and the moving one warped onto the fixed grid."""

    path_fixed: Path
    fixed: Int32[ndarray, "x y z"]
    moving: Int32[ndarray, "x y z"]
    warped: Int32[ndarray, "x y z"]


def _read_maps(case: Case, folder: str, disp_vox: Float64[ndarray, "x y z 3"]) -> _Maps:
    path_fixed, path_moving = case.maps(folder)
    moving = read_labels(path_moving)
    return _Maps(path_fixed, read_labels(path_fixed), moving, warp_labels(moving, disp_vox))


def _folding(case: Case, disp_vox: Float64[ndarray, "x y z 3"]) -> float:
    mask = read_image(case.fixed_image).data > 0
    try:
        return non_diffeomorphic_percentage(disp_vox, mask)
    except ValueError as error:
        raise VolumeError(f"{case.fixed_image}: {error}") from error


def _score_maps(method: EvaluationMethod, maps: _Maps) -> Score:
    if method.metric == "tre":
        try:
            return _single(target_registration_error(maps.fixed, maps.warped))
        except ValueError as error:
            raise VolumeError(f"{maps.path_fixed}: {error}") from error
    per_label = dice_per_label if method.metric == "dice" else hd95_per_label
    values = per_label(maps.fixed, maps.moving, maps.warped, method.labels)
    scored = values[~np.isnan(values)]
    return {"mean": float(scored.mean()) if scored.size else math.nan, "detailed": values.tolist()}


def _single(value: float) -> Score:
    return {"mean": value, "detailed": value}


def _means(scores: Iterable[CaseScores], metric: str) -> list[float]:
    return [case_scores[metric]["mean"] for case_scores in scores if metric in case_scores]


def _score_or_problem(case: Case) -> CaseScores | str:
    try:
        return score_case(case)
    except VolumeError as error:
        return str(error)


def _score_all(cases: Sequence[Case], workers: int, description: str) -> list[CaseScores]:
    """Score every case, so that damaged files found on the way are reported together."""
    scores: list[CaseScores] = []
    problems: list[str] = []
    run = Parallel(n_jobs=workers, return_as="generator")
    with Progress(len(cases), description) as progress:
        for case, outcome in zip(cases, run(delayed(_score_or_problem)(case) for case in cases), strict=True):
            if isinstance(outcome, str):
                problems.append(outcome)
            else:
                scores.append(outcome)
            progress.advance(case.name)
    raise_problems(problems)
    return scores
