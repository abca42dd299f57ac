"""The pairs of a report: which of them are shown in pictures, and their scores and pictures row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from numpy import ndarray

from lumirkit.eval.cases import Case, EvaluationError
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.measures import find_measure
from lumirkit.eval.metrics.shared.warping import warp_labels
from lumirkit.eval.pictures import PANELS, RegisteredPair, as_webp, plane_stack
from lumirkit.eval.report.page import as_data_uri
from lumirkit.eval.report.viewer import Packing, pack_row, pack_shared
from lumirkit.eval.tables.columns import COLUMNS
from lumirkit.registration.header import HeaderPlace
from lumirkit.registration.pair_files import read_pair
from lumirkit.registration.volume import read_place
from lumirkit.registration.warp import sample

SHARED_PANELS = ("fixed", "moving")
ROW_PANELS = tuple(name for name in PANELS if name not in SHARED_PANELS)
_PIXELS_PER_VOXEL = 1.25


@dataclass(frozen=True)
class ShownRow:
    """A row on a pair: its scores as text, and its pictures (data URIs) by panel."""

    name: str
    scores: str
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class ShownPair:
    """One pair with the pictures that all rows share, those of each, and what its viewer takes (see viewer.py)."""

    split: str
    case_name: str
    pictures: Mapping[str, str]
    rows: Sequence[ShownRow]
    volumes: Mapping[str, Any]
    remarks: Sequence[str]


def worst_first(result: LeaderboardResult, per_split: int) -> list[Case]:
    """The cases with the lowest Dice of each split, or the largest TRE where it has no Dice; NaN comes before all."""
    chosen: list[Case] = []
    for split in dict.fromkeys(case.split for case, _ in result.scored):
        split_cases = [(case, measured.measures) for case, measured in result.scored if case.split == split]
        split_cases.sort(key=lambda scored: _goodness(*scored))
        chosen += [case for case, _ in split_cases[:per_split]]
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


def _goodness(case: Case, measures: Mapping[str, float]) -> float:
    dice, tre = (find_measure(measures, measure, case.name) for measure in ("dice", "tre_vox"))
    good = dice if dice is not None else -tre if tre is not None else np.nan
    return good if np.isfinite(good) else -np.inf


def show_pair(case: Case, results: Mapping[str, LeaderboardResult]) -> ShownPair:
    """Draw a case as each row registered it.

    Args:
        case: a case of any of the results.
        results: the result of every row, by its name.
    """
    place = _place(case)
    packing = Packing.of(case.shape, place)
    shared: dict[str, str] = {}
    volumes: dict[str, Any] = {}
    rows, packed_rows = [], []
    for name, result in results.items():
        own, measured = next(
            (own, measured) for own, measured in result.scored if (own.split, own.pair) == (case.split, case.pair)
        )
        pair = _read(own)
        if not shared:
            shared = {panel: _picture(pair, panel) for panel in SHARED_PANELS}
            volumes = pack_shared(pair, packing)
        pictures = {panel: _picture(pair, panel) for panel in ROW_PANELS if panel != "labels" or _has_labels(pair)}
        rows.append(ShownRow(name, _scores(own, measured.measures), pictures))
        packed_rows.append(pack_row(pair, packing))
    volumes["rows"] = packed_rows
    return ShownPair(str(case.split), case.name, shared, rows, volumes, _remarks(case, packing))


def _remarks(case: Case, packing: Packing) -> list[str]:
    """What must be known about the pictures of a case."""
    remarks = []
    if not _has_images(case):
        remarks.append("The dataset folder has no images of this pair, so its label maps are shown in their place.")
    if packing.orientation is None:
        remarks.append("The header of the fixed image does not say which side is left, so no side is marked.")
    return remarks


def _has_images(case: Case) -> bool:
    return case.fixed_image.is_file() and case.moving_image.is_file()


def _place(case: Case) -> HeaderPlace:
    """Where the fixed grid lies, by the header of the fixed image, or of its label map where there is no image."""
    folder = _label_folder(case)
    return read_place(case.fixed_image if _has_images(case) or folder is None else case.maps(folder)[0])


def _label_folder(case: Case) -> str | None:
    return next((metric.folder for metric in case.metrics if metric.kind != "ndv"), None)


def _read(case: Case) -> RegisteredPair:
    """Images, field and label maps of a case, the moving ones warped.

    Where the dataset has no images, which overlap and distances do not need, label maps as grey values stand for them.
    """
    inputs = Inputs(case)
    disp_vox = inputs.displacement()
    folder = _label_folder(case)
    fixed_labels, moving_labels = (None, None) if folder is None else inputs.maps(folder)
    if _has_images(case) or fixed_labels is None or moving_labels is None:
        fixed, moving = (image.data for image in read_pair(case.fixed_image, case.moving_image))
    else:
        fixed, moving = _as_grey(fixed_labels, moving_labels)
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0), dtype=np.float32))[None]
    warped = sample(torch.from_numpy(moving)[None, None], field)[0, 0].numpy()
    if moving_labels is None:
        return RegisteredPair(fixed, moving, warped, disp_vox)
    return RegisteredPair(fixed, moving, warped, disp_vox, fixed_labels, warp_labels(moving_labels, disp_vox))


def _as_grey(*maps: Int[ndarray, "x y z"]) -> list[Float32[ndarray, "x y z"]]:
    """Label maps as intensities: 0 stays black, and the other labels of all maps get grey values in their order."""
    labels = np.union1d(*maps)
    greys = np.where(labels == 0, 0, np.linspace(60, 255, labels.size)).astype(np.float32)
    return [greys[np.searchsorted(labels, each)] for each in maps]


def _has_labels(pair: RegisteredPair) -> bool:
    return pair.fixed_labels is not None


def _picture(pair: RegisteredPair, panel: str) -> str:
    return as_data_uri(as_webp(plane_stack(pair, panel, _PIXELS_PER_VOXEL)), "webp")


def _scores(case: Case, measures: Mapping[str, float]) -> str:
    columns = {column.measure: column for column in COLUMNS}
    found = {column: find_measure(measures, column.measure, case.name) for column in columns.values()}
    return ", ".join(
        column.with_unit(f"{column.name} {column.text(value)}") for column, value in found.items() if value is not None
    )
