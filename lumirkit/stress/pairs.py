"""The labelled pairs of a dataset, in memory, and the scores of fields on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.data_manifests.evaluation_config import MetricEntry, find_evaluation_configs
from lumirkit.eval.cases import Case, list_cases, require_case_files
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.measures import OFFICIAL_MEASURES, ambiguous, find_measure
from lumirkit.eval.scoring import score_case
from lumirkit.eval.stress.scan import Scan
from lumirkit.registration.pair_files import read_pair

_FOLDING = MetricEntry(name="folding", metric="ndv")


def list_labelled_cases(ground_truth: Path, splits: Sequence[str], per_split: int | None) -> list[Case]:
    """The cases with labels, each with its Dice and the folding as its only metrics.

    Args:
        splits: names of splits; none takes all with labels.
        per_split: the most cases of each, the first ones; None for all.

    Raises:
        ManifestError, EvaluationError: a config cannot be used, or files are missing.
        RequestError: a split is unknown or has no labels.
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
    chosen = [each for split in splits or by_split for each in itertools.islice(by_split[split], per_split)]
    require_case_files(chosen)
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
            VolumeError: one cannot be used.
        """
        images = read_pair(case.fixed_image, case.moving_image, case.shape)
        fixed, moving = (
            Scan(image, labels) for image, labels in zip(images, Inputs(case).maps(case.metrics[0].folder), strict=True)
        )
        return cls(case, fixed, moving)

    @property
    def metrics(self) -> str:
        """What the pair is scored by, as text."""
        return " ".join(metric.model_dump_json() for metric in self.case.metrics)

    def score(self, disp_vox: Float32[ndarray, "x y z 3"], moving: Scan) -> tuple[float, float]:
        """Dice and NDV in percent of a field to a disturbed moving scan, as `lumirkit evaluate` measures them.

        The labels of the fixed scan, and its brain as the mask of the folding, are those of the files.

        Raises:
            VolumeError: the field is not finite, or the maps share no label.
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
        return 100 * dice, ndv
