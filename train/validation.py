"""Scores of a network in training: NCC, NDV and inverse error, and the leaderboard's Dice and TRE by labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from lumirkit.data_manifests.dataset import Pair, find_dataset_json, read_dataset, require_files
from lumirkit.data_manifests.evaluation_config import find_evaluation_configs, find_evaluation_files
from lumirkit.eval.cases import Case, EvaluationError, list_cases, require_case_files
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.measures import find_measure
from lumirkit.eval.metrics.inverse_consistency import inverse_consistency_error
from lumirkit.eval.metrics.ndv import measure_folding
from lumirkit.eval.pictures import RegisteredPair, as_pixels, as_png, registration_figure
from lumirkit.eval.scoring import score_case
from lumirkit.registration.full_size import register_full_size
from lumirkit.registration.losses import masked_ncc_loss
from lumirkit.registration.network import INTENSITY_MAX, Network
from lumirkit.registration.pair_files import read_pair
from lumirkit.registration.warp import sample
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import ValidationPlan

# Measures of `lumirkit.eval.scoring` that are quick to take, and their names here.
_LABEL_MEASURES = {"dice": "dice", "tre_of_kept_landmarks_vox": "tre_vox"}
_NCC_WINDOW_VOX = 11

Measures = dict[str, float]


@dataclass(frozen=True)
class ValidationPair:
    """One pair to validate on; `case` says what its labels are scored by, and is None where there are none."""

    split: str
    fixed: Path
    moving: Path
    case: Case | None


@dataclass(frozen=True)
class ValidationResult:
    """The means over the pairs of each split (`<split>/<measure>`), and one PNG picture a split.

    `score` is what the best checkpoint is chosen by: the mean over the splits of their Dice, or of NCC where no split
    has labels.
    """

    score: float
    means: Measures
    pictures: dict[str, bytes]


class Validation:
    """The validation pairs of a dataset folder, shared among the processes of a run."""

    def __init__(self, data: Path, plan: ValidationPlan, processes: Processes) -> None:
        """Choose the first pairs of every split.

        Raises:
            ManifestError: a listed image or a usable JSON is missing.
        """
        self.pairs, self.remark = _validation_pairs(data, plan.pairs_per_split)
        self._processes = processes

    def run(self, network: Network) -> ValidationResult | None:
        """Register and score every pair; None where the dataset has none. Every process gets the same result.

        Raises:
            VolumeError: a file cannot be used.
        """
        own = self.pairs[self._processes.rank :: self._processes.size]
        first_of_split = {pair.split: pair for pair in reversed(self.pairs)}
        outcomes = [(pair.split, *_validate(network, pair, pair is first_of_split[pair.split])) for pair in own]
        return _summary(list(chain.from_iterable(self._processes.gather(outcomes))))


def _validation_pairs(data: Path, most: int) -> tuple[list[ValidationPair], str]:
    """Find the first `most` pairs of every split, and say in a remark how they can be scored."""
    dataset_json = find_dataset_json(data)
    if find_evaluation_files(data):
        cases = list_cases(find_evaluation_configs(data), data, None)
        try:
            require_case_files(cases)
        except EvaluationError as error:
            remark = f"validation without labels: {error}"
        else:
            labelled = [_labelled(case) for case in _first_of_each(cases, most)]
            return labelled, f"validation by Dice, TRE and NDV on {len(labelled)} pairs"
    else:
        remark = "validation without labels: the data has no *_evaluation_config.json"
    pairs: Sequence[Pair] = read_dataset(dataset_json).validation[:most]
    require_files(data, [image for pair in pairs for image in (pair.fixed, pair.moving)], dataset_json)
    return [ValidationPair("validation", data / pair.fixed, data / pair.moving, None) for pair in pairs], remark


def _first_of_each(cases: Iterable[Case], most: int) -> list[Case]:
    taken: dict[str, int] = {}
    kept = []
    for case in cases:
        taken[case.split] = taken.get(case.split, 0) + 1
        if taken[case.split] <= most:
            kept.append(case)
    return kept


def _labelled(case: Case) -> ValidationPair:
    """The pair of a case, scored by the first Dice and the first TRE of its config, which are quick to take."""
    quick = {metric.kind: metric for metric in reversed(case.metrics) if metric.kind in ("dice", "tre")}
    case = replace(case, metrics=tuple(quick.values()))
    return ValidationPair(case.split, case.fixed_image, case.moving_image, case)


def _validate(network: Network, pair: ValidationPair, draw: bool) -> tuple[Measures, bytes | None]:
    """Take all measures of one pair, and draw its picture if asked for."""
    fixed, moving = read_pair(pair.fixed, pair.moving)
    device = next(network.parameters()).device
    images = [torch.from_numpy(image.data).to(device)[None, None] for image in (fixed, moving)]
    with torch.no_grad():
        found = register_full_size(network, *images)
        forward, inverse = found.forward_vox, found.inverse_vox
        warped = sample(images[1], forward)
        ncc = -masked_ncc_loss(images[0] / INTENSITY_MAX, images[1] / INTENSITY_MAX, forward, _NCC_WINDOW_VOX).item()
    disp_vox, inverse_vox = _as_file(forward), _as_file(inverse)
    mask = fixed.data > 0
    measures = {
        "ncc": ncc,
        "ndv_percent": measure_folding(disp_vox, mask).percent,
        "inverse_error_vox": inverse_consistency_error(disp_vox, inverse_vox, mask),
    }
    if pair.case is not None:
        scored = score_case(Inputs(pair.case, disp_vox)).measures
        by_labels = {ours: find_measure(scored, theirs, pair.case.name) for theirs, ours in _LABEL_MEASURES.items()}
        measures |= {name: value for name, value in by_labels.items() if value is not None}
    if not draw:
        return measures, None
    picture = RegisteredPair(fixed.data, moving.data, warped[0, 0].cpu().numpy(), disp_vox)
    return measures, as_png(as_pixels(registration_figure(picture, f"{pair.split}: {pair.fixed.name}")))


def _as_file(disp_vox: Float[Tensor, "1 3 x y z"]) -> Float[ndarray, "x y z 3"]:
    return disp_vox[0].movedim(0, -1).cpu().numpy()


def _summary(outcomes: Sequence[tuple[str, Measures, bytes | None]]) -> ValidationResult | None:
    if not outcomes:
        return None
    values: dict[str, list[float]] = {}
    for split, measures, _ in outcomes:
        for measure, value in measures.items():
            values.setdefault(f"{split}/{measure}", []).append(value)
    means = {name: float(np.mean(per_pair)) for name, per_pair in sorted(values.items())}
    chosen = _per_split(means, "dice") or _per_split(means, "ncc")
    pictures = {split: picture for split, _, picture in outcomes if picture is not None}
    return ValidationResult(float(np.mean(chosen)), means, pictures)


def _per_split(means: Mapping[str, float], measure: str) -> list[float]:
    return [value for name, value in means.items() if name.endswith(f"/{measure}")]
