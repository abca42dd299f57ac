"""The report of a training run: curves from its logs, what it was, and its latest pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from pydantic import TypeAdapter, ValidationError

from lumirkit.base.files import require_writable_file
from lumirkit.base.outputs import require_apart
from lumirkit.base.training_log import STEPS, VALIDATIONS, read_log
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.report.page import INK, SERIES_COLORS, as_data_uri, as_svg, style, write_page

_POINTS = 400  # of a curve; more would not be seen
_MACHINE_COLUMNS = {
    "learning_rate": "learning rate",
    "samples_per_second": "samples a second",
    "memory_gb": "memory in GB (1e9 bytes)",
    "seconds": "seconds a step",
    "waited_seconds": "seconds waited for data",
}
_NOT_LOSSES = {"stage", "step", "epoch", *_MACHINE_COLUMNS}
_PROVENANCE = TypeAdapter(dict[str, Any])


def write_training_report(run: Path, path: Path) -> None:
    """Write the page of a run folder, finished or not.

    Raises:
        EvaluationError: the folder holds no log of a run.
        RequestError: the page cannot be written, or would replace a file of the run.
        TrainingLogError: a line of a log is damaged.
    """
    logs = run / STEPS, run / VALIDATIONS
    pictures = (run / "pictures").glob("*.png")
    require_writable_file(path)
    require_apart([path], [*logs, run / "recipe.yaml", run / "provenance.json", *pictures])
    log, validation = map(_read, logs)
    if log.empty:
        found = "found no steps" if run.is_dir() else "no such folder"
        raise EvaluationError(f"{logs[0]}: {found}; expected the folder of a training run, `--out` of `train`.")
    losses = [name for name in log.columns if name not in _NOT_LOSSES]
    machine = {name: title for name, title in _MACHINE_COLUMNS.items() if name in log.columns}
    starts = log.groupby("stage")["step"].min().tolist()[1:]
    with style():
        curves = [_curve(log, [name], name, starts, smooth=True) for name in losses]
        curves_of_machine = [_curve(log, [name], title, starts) for name, title in machine.items()]
        validated = [_curve(validation, names, title, starts) for title, names in _validation_groups(validation)]
    write_page(
        path,
        "training.html.j2",
        run=f"{run.resolve().parent.name}/{run.resolve().name}",
        facts=_facts(run, log),
        losses=curves,
        machine=curves_of_machine,
        validation=validated,
        pictures=_latest_pictures(run / "pictures"),
        recipe=(run / "recipe.yaml").read_text(encoding="utf-8") if (run / "recipe.yaml").exists() else "",
    )


def _read(path: Path) -> pd.DataFrame:
    """The numbers of a log, without columns that hold none."""
    lines = [line.numbers for line in read_log(path)]
    return pd.DataFrame(lines, dtype=float).dropna(axis="columns", how="all")


def _facts(run: Path, log: pd.DataFrame) -> dict[str, str]:
    """The steps, the time and the origin of a run, as text by name.

    Raises:
        EvaluationError: what is noted of the origin cannot be read.
    """
    steps, seconds = int(log["step"].iloc[-1]), float(log.filter(["seconds", "waited_seconds"]).sum().sum())
    facts = {
        "steps": f"{steps}",
        "time in steps": f"{seconds / 3600:.2f} h",
        "seconds a step": f"{seconds / len(log):.2f}",
    }
    if "memory_gb" in log:
        facts["peak memory"] = f"{log['memory_gb'].max():.1f} GB"
    provenance = run / "provenance.json"
    if not provenance.exists():
        return facts
    try:
        noted = _PROVENANCE.validate_json(provenance.read_bytes())
    except ValidationError as error:
        raise EvaluationError(
            f"{provenance}: found no JSON object; expected what `lumirkit train` wrote. "
            "Restore the file, or move it away."
        ) from error
    return facts | {name: str(value) for name, value in noted.items()}


def _validation_groups(validation: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Columns `<split>/<measure>` by measure, so that a chart has one line a split; the score first."""
    groups: dict[str, list[str]] = {"score": ["score"]} if "score" in validation else {}
    for name in validation.columns:
        if "/" in name:
            groups.setdefault(name.split("/")[1], []).append(name)
    return list(groups.items())


def _curve(log: pd.DataFrame, names: Sequence[str], title: str, starts: Sequence[int], smooth: bool = False) -> Markup:
    """Values over steps; dotted lines are where stages begin."""
    figure = Figure(figsize=(4.2, 2.2), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(names):
        steps, values = _thinned(log["step"].to_numpy(float), log[name].to_numpy(float))
        color = SERIES_COLORS[number % len(SERIES_COLORS)]
        label = name.split("/")[0].replace("_", " ")
        few = len(steps) < 40 and not smooth
        axes.plot(
            steps, values, color=color, linewidth=1, alpha=0.35 if smooth else 1, marker="." if few else "", label=label
        )
        if smooth:
            running = pd.Series(values).rolling(max(1, len(values) // 20), min_periods=1, center=True).mean()
            axes.plot(steps, running, color=color, linewidth=1.6)
    for start in starts:
        axes.axvline(start, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axes.set_title(title.replace("_", " "), fontsize=9, loc="left")
    axes.set_xlabel("step")
    axes.grid()
    if len(names) > 1:
        axes.legend(fontsize=7)
    last = ", ".join(f"{name} {log[name].dropna().iloc[-1]:.4g}" for name in names)
    return as_svg(figure, f"{title} over steps; at the end {last}")


def _thinned(steps: Any, values: Any) -> tuple[Any, Any]:
    """Means of neighbouring points, so that no curve has more than _POINTS of them; NaN, not logged, is left out."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if steps.size <= _POINTS:
        return steps, values
    parts = np.array_split(np.arange(steps.size), _POINTS)
    return np.array([steps[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def _latest_pictures(folder: Path) -> dict[str, str]:
    """The newest picture of each split (`step_<number>_<split>.png`), by its name."""
    latest = {path.stem.split("_", 2)[2]: path for path in sorted(folder.glob("step_*_*.png"))}
    return {path.stem.replace("_", " "): as_data_uri(path.read_bytes(), "png") for path in latest.values()}
