"""The guarded reading of a scored ground-truth folder: statistics that one inf or NaN cannot spoil, and its reason.

Stands in metrics.json under the key `guarded`, beside the organisers' numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from lumirkit.data_manifests.evaluation_config import is_official
from lumirkit.eval.cases import Case
from lumirkit.eval.mask_rule import MaskRule
from lumirkit.eval.scoring import INVERSE_CONSISTENCY, CaseResult

# The meaning of the part of a measure's name behind the slash.
DEFINITIONS = {
    "ndv_percent": "non-diffeomorphic volume in percent of the mask, as on the leaderboard",
    "folded_voxels": "voxels of the mask of which at least one of the ten tetrahedra is turned inside out",
    "sd_log_jacobian": "population standard deviation, over the mask, of log(max(J, 1e-9)); J by central differences",
    "dice": "mean Dice over the labels, as on the leaderboard",
    "hd95_vox": "mean HD95 over the labels, as on the leaderboard: inf where warping emptied a label",
    "hd95_of_kept_labels_vox": "mean HD95 over the labels that warping did not empty",
    "hd100_vox": "mean Hausdorff distance (100 %) over the labels",
    "surface_dice": "mean surface Dice over the labels, tolerance 1 voxel, weighted by surface area",
    "tre_vox": "mean distance of fixed and warped landmarks' centroids, as on the leaderboard: NaN if one is lost",
    "tre_of_kept_landmarks_vox": "the same over the landmarks that were not lost in warping",
    "tre_mm": "the same as tre_vox in mm, by the affine of the fixed landmarks",
    "point_vox": "mean distance of fixed centroid + u(fixed centroid), u interpolated, from the moving centroid",
    "point_mm": "the same in mm",
    "dice_without_background": "mean Dice over the labels above 0",
    "hd95_without_background_vox": "mean HD95 over the labels above 0: inf where warping emptied one",
    "hd100_without_background_vox": "mean Hausdorff distance (100 %) over the labels above 0",
    "centroid_vox": "mean over the labels above 0 of the distance as of point_vox, of a label's centroids",
    "centroid_mm": "the same in mm, by the affine of the fixed label map",
    "ssim": "mean SSIM of the fixed and the linearly warped moving image, where the fixed one is above 0; "
    "Gaussian windows of 11 voxels, sigma 1.5; the range is that of the fixed image",
    "ncc": "global NCC: Pearson's correlation coefficient of both images over the voxels where the fixed one is above "
    "0: NaN where one is constant",
    "seconds": "run time of the registration, without reading and writing the files",
    "inverse_consistency_vox": "mean length of u(p) + v(p + u(p)) over the mask, v the field of the opposite direction",
}


class Statistics(TypedDict):
    """One measure over cases: statistics of the finite values (None where there is none), the other cases by name."""

    mean: float | None
    std: float | None
    median: float | None
    count: int
    inf: dict[str, list[str]]
    nan: dict[str, list[str]]


def guarded_reading(
    scored: Sequence[tuple[Case, CaseResult]], failures: Mapping[str, str], mask_rule: MaskRule
) -> dict[str, Any]:
    """The content of the key `guarded`.

    Args:
        scored: the cases that could be scored, with their results.
        failures: why the others could not, by case name; the statistics are without them.
        mask_rule: which image was the mask.
    """
    splits = dict.fromkeys(case.split for case, _ in scored)
    by_split = {split: [(case, result) for case, result in scored if case.split == split] for split in splits}
    used = {measure.split("/")[1] for _, result in scored for measure in result.measures}
    return {
        "complete": not failures,
        "failed": dict(failures),
        "warnings": {case.name: result.warnings for case, result in scored if result.warnings},
        "mask": f"{'fixed' if mask_rule is MaskRule.LUMIR_2025 else 'moving'} image > 0",
        "definitions": {name: text for name, text in DEFINITIONS.items() if name in used},
        "overall": _statistics(official_only(scored)),
        "splits": {str(split): _statistics(split_cases) for split, split_cases in by_split.items()},
        "cases": {str(split): {c.name: r.measures for c, r in split_cases} for split, split_cases in by_split.items()},
    }


def official_only(scored: Sequence[tuple[Case, CaseResult]]) -> Sequence[tuple[Case, CaseResult]]:
    """The cases that numbers over several splits are of: the challenge's, or all where none is the challenge's."""
    return [(case, result) for case, result in scored if is_official(case.split)] or scored


def measure_statistics(values: Mapping[str, float], causes: Mapping[str, list[str]]) -> Statistics:
    """Statistics of one measure: mean, population standard deviation and median of the finite values.

    Args:
        values: by case name.
        causes: what made a value inf or NaN, by case name.
    """
    finite = np.array([value for value in values.values() if math.isfinite(value)], dtype=np.float64)
    some = finite.size > 0
    return {
        "mean": float(finite.mean()) if some else None,
        "std": float(finite.std()) if some else None,
        "median": float(np.median(finite)) if some else None,
        "count": int(finite.size),
        "inf": {name: causes.get(name, []) for name, value in values.items() if math.isinf(value)},
        "nan": {name: causes.get(name, []) for name, value in values.items() if math.isnan(value)},
    }


def _statistics(scored: Iterable[tuple[Case, CaseResult]]) -> dict[str, Statistics]:
    """Statistics of every measure, in the order in which the measures are first met, inverse consistency last."""
    values: dict[str, dict[str, float]] = {}
    causes: dict[str, dict[str, list[str]]] = {}
    for case, result in scored:
        for measure, value in result.measures.items():
            values.setdefault(measure, {})[case.name] = value
            causes.setdefault(measure, {})[case.name] = result.causes.get(measure, [])
    ordered = sorted(values, key=lambda measure: measure == INVERSE_CONSISTENCY)
    return {measure: measure_statistics(values[measure], causes[measure]) for measure in ordered}
