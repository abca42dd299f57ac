"""The pairs of a report that are shown in pictures: which, and what of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lumirkit.data_manifests.evaluation import Split
from lumirkit.eval.cases import Case, EvaluationError
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.metrics.warping import warp_labels
from lumirkit.eval.pictures import PANELS, RegisteredPair, as_webp, plane_stack
from lumirkit.eval.report.page import as_data_uri
from lumirkit.eval.scoring import by_measure
from lumirkit.eval.tables.columns import COLUMNS
from lumirkit.registration.cohort import read_pair
from lumirkit.registration.warp import sample

OF_THE_PAIR = ("fixed", "moving")
OF_A_METHOD = tuple(name for name in PANELS if name not in OF_THE_PAIR)
_PIXELS_PER_VOXEL = 1.25


@dataclass(frozen=True)
class ShownMethod:
    """A method on a pair: its scores as text, and its pictures (data URIs) by panel."""

    name: str
    scores: str
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class ShownPair:
    """One pair with the pictures that all methods share, and those of each."""

    split: str
    case_name: str
    pictures: Mapping[str, str]
    methods: Sequence[ShownMethod]


def worst_first(result: LeaderboardResult, per_split: int) -> list[Case]:
    """Of each split the cases with the lowest Dice, or the largest TRE where there is none; NaN before all."""
    chosen: list[Case] = []
    for split in Split:
        of_split = [(case, measured.measures) for case, measured in result.scored if case.split is split]
        of_split.sort(key=lambda pair: _goodness(pair[1]))
        chosen += [case for case, _ in of_split[:per_split]]
    return chosen


def named(result: LeaderboardResult, names: Sequence[str]) -> list[Case]:
    """The cases that were asked for, by any part of their names, such as `3455_0000<--3454_0000` or `3455`.

    Raises:
        EvaluationError: no case is called so.
    """
    chosen: list[Case] = []
    for name in names:
        found = [case for case, _ in result.scored if name in case.name]
        if not found:
            known = ", ".join(case.name for case, _ in result.scored[:5])
            raise EvaluationError(f"pair {name}: no case is called so; there are {known}, …")
        chosen += [case for case in found if case not in chosen]
    return chosen


def _goodness(measures: Mapping[str, float]) -> float:
    values = by_measure(measures)
    good = values["dice"] if "dice" in values else -values.get("tre_vox", np.nan)
    return good if np.isfinite(good) else -np.inf


def show_pair(case: Case, results: Mapping[str, LeaderboardResult]) -> ShownPair:
    """Draw a case as each method registered it.

    Args:
        case: a case of any of the results.
        results: of every method, by its name.
    """
    shared: dict[str, str] = {}
    methods = []
    for name, result in results.items():
        own, measured = next(
            (own, measured) for own, measured in result.scored if (own.split, own.pair) == (case.split, case.pair)
        )
        pair = _read(own)
        if not shared:
            shared = {panel: _picture(pair, panel) for panel in OF_THE_PAIR}
        pictures = {panel: _picture(pair, panel) for panel in OF_A_METHOD if panel != "labels" or _has_labels(pair)}
        methods.append(ShownMethod(name, _scores(measured.measures), pictures))
    return ShownPair(str(case.split), case.name, shared, methods)


def _read(case: Case) -> RegisteredPair:
    """Images, field and label maps of a case, the moving ones warped."""
    fixed, moving = (image.data for image in read_pair(case.root / case.pair.fixed, case.root / case.pair.moving))
    inputs = Inputs(case)
    disp_vox = inputs.displacement()
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0), dtype=np.float32))[None]
    warped = sample(torch.from_numpy(moving)[None, None], field)[0, 0].numpy()
    folder = next((method.folder for method in case.methods if method.metric != "ndv"), None)
    if folder is None:
        return RegisteredPair(fixed, moving, warped, disp_vox)
    fixed_labels, moving_labels = inputs.maps(folder)
    return RegisteredPair(fixed, moving, warped, disp_vox, fixed_labels, warp_labels(moving_labels, disp_vox))


def _has_labels(pair: RegisteredPair) -> bool:
    return pair.fixed_labels is not None


def _picture(pair: RegisteredPair, panel: str) -> str:
    return as_data_uri(as_webp(plane_stack(pair, panel, _PIXELS_PER_VOXEL)), "webp")


def _scores(measures: Mapping[str, float]) -> str:
    values = by_measure(measures)
    named = {column.measure: column for column in COLUMNS}
    return ", ".join(
        f"{column.heading.split()[0]} {column.number(column.scale * values[measure])}"
        + (" %" if column.unit == "%" else "")
        for measure, column in named.items()
        if measure in values
    )
