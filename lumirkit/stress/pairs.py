"""The labelled pairs of a dataset, in memory, and the scores of fields on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.data_manifests.evaluation_config import MetricEntry, find_evaluation_configs
from lumirkit.eval.cases import Case, list_cases, require_case_files
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.measures import OFFICIAL_MEASURES, ambiguous, find_measure
from lumirkit.eval.scoring import score_case
from lumirkit.eval.stress.scan import Scan
from lumirkit.registration.pair_files import read_pair

_BACKGROUND = 0  # a label of the official lists too
_FOLDING = MetricEntry(name="folding", metric="ndv")


def list_labelled_cases(ground_truth: Path, splits: Sequence[str], per_split: int | None) -> list[Case]:
    """The cases with labels, each with its Dice and the folding as its only metrics.

    Args:
        splits: names of splits; none takes all with labels.
        per_split: the most cases of each, the first ones; None for all.

    Raises:
        ManifestError, EvaluationError: a config cannot be used, or files are missing.
        RequestError: a split is unknown, has no labels, or lists a pair twice.
    """
    cases = [_dice_alone(case) for case in list_cases(find_evaluation_configs(ground_truth), ground_truth, None)]
    by_split: dict[str, list[Case]] = {}
    for case in cases:
        if len(case.metrics) > 1:
            by_split.setdefault(str(case.split), []).append(case)
    for split in splits:
        if split not in by_split:
            raise RequestError(f"--split {split}: expected one of {', '.join(by_split) or 'none, as none has labels'}")
    if not by_split:
        raise RequestError(f"{ground_truth}: no split has labels to score; expected an evaluation config with Dice.")
    chosen = [case for split in dict.fromkeys(splits or by_split) for case in by_split[split][:per_split]]
    for (split, name), times in Counter((str(case.split), case.name) for case in chosen).items():
        if times > 1:
            raise RequestError(
                f"{ground_truth}: found the pair {name} {times} times in the split {split}; expected it once. "
                "Remove it from the split's evaluation config, or choose other splits."
            )
    require_case_files(chosen, with_images=True)
    return chosen


def _dice_alone(case: Case) -> Case:
    dice = [metric for metric in case.metrics if metric.kind == "dice"]
    if len(dice) > 1:
        raise ambiguous(case.name, "dice", [metric.name for metric in dice])
    return replace(case, metrics=(*dice, _FOLDING))


@dataclass(frozen=True)
class LabelledPair:
    """Both scans of a case as their files have them."""

    case: Case
    fixed: Scan
    moving: Scan

    @classmethod
    def read(cls, case: Case) -> LabelledPair:
        """Read images and label maps.

        Raises:
            VolumeError: one cannot be used, or the two maps share no label but the background.
        """
        images = read_pair(case.fixed_image, case.moving_image, case.shape)
        fixed, moving = (
            Scan(image, labels) for image, labels in zip(images, Inputs(case).maps(case.metrics[0].folder), strict=True)
        )
        pair = cls(case, fixed, moving)
        if not pair._scored_labels(moving) - {_BACKGROUND}:
            raise VolumeError(
                f"{case.name}: the label maps share none of the labels to score but the background; expected maps of "
                "one list of labels. Look at both."
            )
        return pair

    @property
    def metrics(self) -> str:
        """What the pair is scored by, as text."""
        return " ".join(metric.model_dump_json() for metric in self.case.metrics)

    def score(self, disp_vox: Float32[ndarray, "x y z 3"], moving: Scan) -> tuple[float, float]:
        """Dice and NDV in percent of a field to a disturbed moving scan, as `lumirkit evaluate` measures them.

        The labels of the fixed scan, and its brain as the mask of the folding, are those of the files. A label that
        the disturbance has moved out of the image counts as a Dice of 0. `evaluate` would leave it out, and a stronger
        disturbance could look like a weaker one.

        Raises:
            VolumeError: the field is not finite, or the disturbance has moved every label out of the image.
        """
        if not np.isfinite(disp_vox).all():
            raise VolumeError(
                f"{moving.image.name}: the method gave NaN or inf; expected a field. Look at both images."
            )
        inputs = Inputs(self.case, disp_vox, {self.case.metrics[0].folder: moving.labels})
        result = score_case(inputs)
        dice, ndv = (find_measure(result.measures, OFFICIAL_MEASURES[kind], self.case.name) for kind in ("dice", "ndv"))
        assert dice is not None and ndv is not None
        if not np.isfinite(dice):
            causes = "; ".join(cause for causes in result.causes.values() for cause in causes)
            raise VolumeError(f"{self.case.name}: has no Dice ({causes}); expected labels that both maps have.")
        left = len(self._scored_labels(moving)) / len(self._scored_labels(self.moving))
        return 100 * dice * left, ndv

    def _scored_labels(self, moving: Scan) -> set[int]:
        """The labels that have a Dice: those of the metric which both maps show."""
        in_both = np.intersect1d(self._fixed_labels, np.unique(moving.labels))
        return set(self.case.metrics[0].labels).intersection(in_both.tolist())

    @cached_property
    def _fixed_labels(self) -> Int32[ndarray, " ids"]:
        return np.unique(self.fixed.labels)
