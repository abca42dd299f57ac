"""Charts of scores: every case of every row, and every structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumirkit.data_manifests.structures import structure_name
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.report.page import INK, SERIES_COLORS, as_svg, style
from lumirkit.eval.statistics.significance import interval_of_mean
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.columns import Column, columns_in
from lumirkit.eval.tables.paper import Cell
from lumirkit.eval.tables.rows import ScoredRow

_INCHES_PER_STRUCTURE = 0.15


def distribution_charts(rows: Sequence[ScoredRow]) -> list[Markup]:
    """One chart a metric and split: a dot a case, a line a row with its mean and 95 % interval."""
    columns = columns_in(ColumnSet.LEADERBOARD, rows)
    return [_distribution(column, rows) for column in columns if any(column.values(row).size for row in rows)]


def _distribution(column: Column, rows: Sequence[ScoredRow]) -> Markup:
    with style():
        figure = Figure(figsize=(4.2, 0.7 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        lost = 0
        for place, row in enumerate(rows):
            finite = column.finite(row)
            lost += column.values(row).size - finite.size
            color = SERIES_COLORS[place % len(SERIES_COLORS)]
            spread = np.linspace(-0.22, 0.22, finite.size) if finite.size > 1 else np.zeros(finite.size)
            axes.scatter(finite, place + spread, s=14, color=color, alpha=0.7, linewidths=0)
            if finite.size:
                low, high = interval_of_mean(finite)
                axes.plot([low, high], [place, place], color=INK, linewidth=1.6)
                axes.plot([finite.mean()], [place], marker="|", markersize=14, color=INK, markeredgewidth=1.6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.invert_yaxis()
        axes.grid(axis="x")
        unit = f" in {column.unit}s" if column.unit == "voxel" else f" {column.unit}"
        remark = f", {lost} inf or NaN not shown" if lost else ""
        axes.set_title(f"{column.heading}{unit} {column.arrow}{remark}", fontsize=9, loc="left")
        means = ", ".join(f"{row.name} {column.number(_mean(column, row))}" for row in rows)
        return as_svg(figure, f"{column.heading} of every case; means: {means}")


def _mean(column: Column, row: ScoredRow) -> float:
    cell = Cell.of(column, row)
    return cell.mean if cell is not None else float("nan")


def structure_charts(results: Mapping[str, LeaderboardResult]) -> dict[str, Markup]:
    """One chart a split with labels: the mean Dice of every structure, best first by the first row."""
    charts = {}
    for split in dict.fromkeys(case.split for result in results.values() for case, _ in result.scored):
        dice = {name: _mean_dice_by_label(result, split) for name, result in results.items()}
        if any(dice.values()):
            charts[str(split)] = _structures(str(split), dice)
    return charts


def _structures(split: str, dice: Mapping[str, Mapping[int, float]]) -> Markup:
    first = next(iter(dice.values()))
    labels = sorted(first, key=lambda label: first[label], reverse=True)
    with style():
        figure = Figure(figsize=(6.4, 0.9 + _INCHES_PER_STRUCTURE * len(labels)), layout="constrained")
        axes: Axes = figure.subplots()
        for place, (name, by_label) in enumerate(dice.items()):
            values = [100 * by_label.get(label, np.nan) for label in labels]
            color = SERIES_COLORS[place % len(SERIES_COLORS)]
            axes.scatter(values, range(len(labels)), s=12, color=color, label=name, linewidths=0, alpha=0.85)
        names = [f"{structure_name(label)} ({label})" for label in labels]
        axes.set_yticks(range(len(labels)), names, fontsize=7)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("mean Dice %")
        axes.grid()
        if len(dice) > 1:
            figure.legend(loc="outside upper center", ncols=4, fontsize=8)
        worst = ", ".join(names[-3:])
        return as_svg(figure, f"{split}: mean Dice of {len(labels)} structures; the lowest: {worst}")


def _mean_dice_by_label(result: LeaderboardResult, split: str) -> dict[int, float]:
    """The mean Dice of each label over the cases in which both maps have it."""
    values: dict[int, list[float]] = {}
    for case, measured in result.scored:
        for label, row in measured.labels.items() if case.split == split else ():
            values.setdefault(label, []).extend(value for name, value in row.items() if name.endswith("/dice"))
    finite = {label: [value for value in dice if np.isfinite(value)] for label, dice in values.items()}
    return {label: float(np.mean(dice)) for label, dice in finite.items() if dice}
