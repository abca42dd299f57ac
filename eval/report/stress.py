"""The page of what disturbances cost: a small chart each, the tables, and what the disturbances look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy import ndarray

from lumirkit.eval.cases import Case
from lumirkit.eval.pictures import as_webp, plane
from lumirkit.eval.report.page import SERIES_COLORS, as_data_uri, as_svg, style, write_page
from lumirkit.eval.stress.disturbance import Disturbance
from lumirkit.eval.stress.table import UNDISTURBED, TextTable, curve_of

_CORONAL = 1
_MARKERS = "osD^vP*X"


@dataclass
class StressPictures:
    """One coronal plane of a moving image under each disturbance, where its weakest strength changes much brain.

    Every disturbance shows the first pair to which it could be done.
    """

    by_disturbance: dict[str, dict[str, str]] = field(default_factory=dict)
    """Pictures (data URIs) by the strength as text, by the name of the disturbance."""
    shown: dict[str, Case] = field(default_factory=dict)
    """The pair that is shown, by the name of the disturbance."""
    _planes: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        case: Case,
        disturbance: Disturbance,
        strength: float,
        before: Float32[ndarray, "x y z"],
        after: Float32[ndarray, "x y z"],
    ) -> None:
        """Draw a pair's moving image at a strength, after the undisturbed one; later pairs are left out."""
        if self.shown.setdefault(disturbance.name, case) != case:
            return
        if disturbance.name not in self._planes:
            change, brain = (volume.sum(axis=(0, 2)) for volume in (np.abs(after - before), before > 0))
            self._planes[disturbance.name] = int((change * brain).argmax())
            self.by_disturbance[disturbance.name] = {"undisturbed": self._picture(disturbance, before)}
        self.by_disturbance[disturbance.name][f"{strength:g} {disturbance.unit}"] = self._picture(disturbance, after)

    def _picture(self, disturbance: Disturbance, image: Float32[ndarray, "x y z"]) -> str:
        grey = plane(image, _CORONAL, self._planes[disturbance.name])[::-1].astype(np.uint8)
        return as_data_uri(as_webp(np.repeat(grey[..., None], 3, axis=2)), "webp")


def write_stress_report(
    path: Path,
    means: pd.DataFrame,
    tables: Sequence[TextTable],
    disturbances: Sequence[Disturbance],
    cases: Sequence[Case],
    seed: int,
    pictures: StressPictures,
    failures: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        means: see `mean_rows`.
        tables: see `text_tables`; the first one is open.
        cases: all that were to be registered.
    """
    methods = list(dict.fromkeys(means["method"]))
    colors = {method: SERIES_COLORS[number % len(SERIES_COLORS)] for number, method in enumerate(methods)}
    dice = means["dice_percent"]
    margin = max(1.0, 0.05 * (dice.max() - dice.min()))
    limits = float(dice.min() - margin), float(dice.max() + margin)
    undisturbed = means[means["disturbance"] == UNDISTURBED].set_index("method")["dice_percent"]
    write_page(
        path,
        "stress.html.j2",
        colors=colors,
        undisturbed=undisturbed.to_dict(),
        charts=[_chart(means, each, colors, limits) for each in disturbances],
        tables=tables,
        disturbances=disturbances,
        pictures=pictures,
        cases=cases,
        seed=seed,
        failures=failures,
    )


def _chart(
    means: pd.DataFrame, disturbance: Disturbance, colors: Mapping[str, str], limits: tuple[float, float]
) -> Markup:
    """Mean Dice over the strength, a line a method; all charts of a page share the range of Dice."""
    said = []
    with style():
        figure = Figure(figsize=(3.2, 2.5), layout="constrained")
        axes = figure.subplots()
        axes.axvline(disturbance.neutral, color=SERIES_COLORS[-1], linewidth=0.8, linestyle=":")
        for number, (method, color) in enumerate(colors.items()):
            strengths, dice = curve_of(means, method, disturbance.name)
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(strengths, dice, color=color, marker=marker, markersize=3.5, linewidth=1.4)
            said.append(f"{method} " + ", ".join(f"{y:.1f} at {x:g}" for x, y in zip(strengths, dice, strict=True)))
        axes.set_ylim(*limits)
        axes.set_title(disturbance.name, fontsize=9, loc="left")
        axes.set_xlabel(disturbance.unit, fontsize=8)
        axes.set_ylabel("Dice %", fontsize=8)
        axes.grid()
        return as_svg(figure, f"Dice under {disturbance.name} in {disturbance.unit}: {'; '.join(said)}")
