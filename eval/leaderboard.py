"""The LUMIR leaderboard: every pair of a ground-truth folder scored, and the aggregates the organisers print.

Follows the organisers' evaluation container, version 3.0, including the form of its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lumirkit.base.engine import Engine, Lost, Processes
from lumirkit.base.failure import reason_of
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.data_manifests.evaluation_config import Split, find_evaluation_configs, is_official
from lumirkit.eval.cache import find_result, keep_result, result_key
from lumirkit.eval.cases import Case, EvaluationError, list_cases, require_case_files
from lumirkit.eval.guarded import guarded_reading, official_only
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.mask_rule import MaskRule
from lumirkit.eval.scoring import CaseResult, CaseScores, score_case

EVAL_VERSION = "3.0"

# The key of each segmentation split among the aggregates.
DICE_KEYS = {Split.IN_DOMAIN: "ID_dice", Split.OUT_OF_DOMAIN: "OOD_dice", Split.MULTI_MODAL: "MM_dice"}

Aggregate = dict[str, float]  # "mean", "std" (population) and "30", the value that 70 % of the cases reach
Scored = Sequence[tuple[Case, CaseResult]]


@dataclass(frozen=True)
class ScoringOptions:
    """The settings of `evaluate` beyond the places of the files.

    `mask_rule` says which image is the brain mask; `inverse_fields` is a folder with the fields of the opposite
    direction, each under the name of the exchanged pair; in `cache` scored cases are kept, so that a later call
    scores only what is new or changed. `designs` adds what training designs are compared by (`DESIGN_COLUMNS`) to
    the guarded measures: similarity of the images, structures without background, and run times.
    """

    mask_rule: MaskRule = MaskRule.LUMIR_2025
    inverse_fields: Path | None = None
    cache: Path | None = None
    designs: bool = False


@dataclass(frozen=True)
class LeaderboardResult:
    """Scores of all cases, by case name, and their aggregates, by metric name; the guarded reading beside them.

    Splits of the user's own stand in the guarded reading alone, unless there are no others: so the numbers of the
    challenge's splits are the same with and without them.

    Where `failures` names pairs that could not be scored, `aggregates` is empty: numbers over the others would look
    like the leaderboard's and be none.
    """

    name: str
    cases: dict[str, CaseScores]
    aggregates: dict[str, Aggregate]
    kinds: dict[str, str]
    """The kind of each metric, "ndv", "dice", "hd95" or "tre", by its name."""
    guarded: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """The reason why a pair could not be scored, by case name."""
    scored: Scored = ()
    """Every scored case with all that was measured on it, for tables."""

    @property
    def warnings(self) -> list[str]:
        """Remarks on what is doubtful about the scored files, in the order of the cases."""
        return [warning for _, measured in self.scored for warning in measured.warnings]

    def to_json(self) -> str:
        """The organisers' metrics.json, and the key `guarded`; NaN and Infinity stand as Python's json writes them."""
        content = {
            "name": self.name,
            "aggregates": self.aggregates,
            "cases": self.cases,
            "eval_version": EVAL_VERSION,
            "guarded": self.guarded,
        }
        return json.dumps(content, indent=4)


def evaluate(
    ground_truth: Path,
    fields: Path | None,
    engine: Engine | None = None,
    description: str = "scoring",
    options: ScoringOptions | None = None,
) -> LeaderboardResult:
    """Score displacement fields against a ground-truth folder; the result does not depend on `engine`.

    A pair with a damaged or unusable file is named in the result's `failures`; all others are scored.

    Args:
        ground_truth: folder with `*_evaluation_config.json`, images, labels and landmarks.
        fields: folder with `disp_<fixed>_<moving>.nii.gz`; None scores zero displacement.
        engine: what scores cases side by side; None for this process, one case after another.
        description: what the progress display calls the work.
        options: see `ScoringOptions`; None for the rules of 2025, without inverse fields and without a cache.

    Raises:
        EvaluationError: the request is wrong or files are missing, which is found before the first case is scored.
    """
    options = options or ScoringOptions()
    for folder in (fields, options.inverse_fields):
        if folder is not None and not folder.is_dir():
            raise EvaluationError(f"{folder}: no such folder; expected the displacement fields. Check the path.")
    try:
        configs = find_evaluation_configs(ground_truth)
        cases = list_cases(configs, ground_truth, fields, options.mask_rule, options.inverse_fields, options.designs)
    except ManifestError as error:
        raise EvaluationError(str(error)) from error
    require_case_files(cases)
    scored, failures = _score_all(cases, engine or Processes(), description, options.cache)
    guarded = guarded_reading(scored, failures, options.mask_rule)
    configs = [config for config in configs if is_official(config.split)] or configs
    kinds = {metric.name: metric.kind for config in configs for metric in config.metrics}
    task = official_only(scored)
    official = {case.name: result.scores for case, result in task}
    # As in the organisers' script, a case in two configs keeps the place of the first and the scores of the last.
    aggregates = {} if failures else leaderboard_aggregates([(case, result.scores) for case, result in task], kinds)
    return LeaderboardResult(configs[-1].name, official, aggregates, dict(kinds), guarded, failures, scored)


def leaderboard_aggregates(scored: Sequence[tuple[Case, CaseScores]], kinds: Mapping[str, str]) -> dict[str, Aggregate]:
    """Aggregates over all cases by metric, then those of the Dice of each segmentation split.

    Args:
        scored: cases in the order of the configs, with their scores.
        kinds: kind ("ndv", "dice", "hd95", "tre") of each metric, by its name.
    """
    cases = {case.name: scores for case, scores in scored}
    aggregates = {
        metric: aggregate(_means(cases.values(), metric), high_is_worse=kinds[metric] == "tre")
        for metric in sorted({metric for scores in cases.values() for metric in scores})
    }
    for split, key in DICE_KEYS.items():
        split_scores = {case.name: scores for case, scores in scored if case.split == split}
        dice = [mean for metric in kinds if kinds[metric] == "dice" for mean in _means(split_scores.values(), metric)]
        if dice:
            aggregates[key] = aggregate(dice, high_is_worse=False)
    return aggregates


def aggregate(values: Sequence[float], high_is_worse: bool) -> Aggregate:
    """Mean, population standard deviation and the 0.3 quantile (0.7 where `high_is_worse`) over cases."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf: a standard deviation of NaN is the organisers' answer too
        return {
            "mean": float(array.mean()),
            "std": float(array.std()),
            "30": float(np.quantile(array, 0.7 if high_is_worse else 0.3)),
        }


def _means(scores: Iterable[CaseScores], metric: str) -> list[float]:
    return [case_scores[metric]["mean"] for case_scores in scores if metric in case_scores]


def _score_or_reason(cache: Path | None, case: Case) -> CaseResult | str:
    """The result of a case, or why it has none: one bad pair must not hide the others."""
    inputs = Inputs(case)
    try:
        if cache is None:
            return score_case(inputs)
        key = result_key(inputs)
        result = find_result(cache, case, key)
        if result is None:
            result = score_case(inputs)
            keep_result(cache, case, key, result)
        return result
    except Exception as error:
        return reason_of(error, case.name)


def _score_all(
    cases: Sequence[Case], engine: Engine, description: str, cache: Path | None
) -> tuple[list[tuple[Case, CaseResult]], dict[str, str]]:
    """Every case scored, in the order of the cases, and the reasons of those that could not be."""
    found: dict[int, CaseResult | str] = {}
    means = _RunningMeans()
    outcomes = engine.outcomes(partial(_score_or_reason, cache), cases)
    with Progress(len(cases), description) as progress, closing(outcomes):
        for position, outcome in outcomes:
            found[position] = outcome.reason if isinstance(outcome, Lost) else outcome
            means.add(cases[position], found[position])
            progress.advance(str(means))
    in_order = [(case, found[position]) for position, case in enumerate(cases)]
    scored = [(case, result) for case, result in in_order if not isinstance(result, str)]
    return scored, {case.name: reason for case, reason in in_order if isinstance(reason, str)}


class _RunningMeans:
    """Means of the cases so far, metric by metric, for the progress display."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._kinds: dict[str, str] = {}
        self._failed = 0

    def add(self, case: Case, result: CaseResult | str) -> None:
        """Count one more case in."""
        if isinstance(result, str):
            self._failed += 1
            return
        self._kinds.update((metric.name, metric.kind.upper()) for metric in case.metrics)
        for metric, score in result.scores.items():
            total, count = self._sums.get(metric, (0.0, 0))
            self._sums[metric] = total + score["mean"], count + 1

    def __str__(self) -> str:
        notes = [f"{self._kinds[metric]} {total / count:.3g}" for metric, (total, count) in self._sums.items()]
        return ", ".join([*notes, f"{self._failed} failed"] if self._failed else notes)
