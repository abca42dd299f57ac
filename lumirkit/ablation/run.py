"""`lumirkit ablation`: from a list of rows to the table, doing what is not done yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lumirkit.ablation.jobs import Job, list_jobs
from lumirkit.ablation.plan import Ablation
from lumirkit.ablation.work import work_side_by_side
from lumirkit.base.files import require_writable, write_text_atomically
from lumirkit.base.outputs import require_apart, require_folder_apart
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset, require_files
from lumirkit.data_manifests.evaluation_config import find_evaluation_configs
from lumirkit.eval.statistics.write import make_statistics
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.paper import PaperTable
from lumirkit.eval.tables.rows import CARD_NAME, read_rows
from lumirkit.registration.device import Place

FORMS = ("md", "tex", "csv")
_PLAN = "plan.json"


@dataclass(frozen=True)
class AblationResult:
    """What is done of an ablation after a call, and what failed in it."""

    failures: dict[str, str]
    """Why jobs failed, by name; the rows that need them are not in the table."""
    table: PaperTable | None
    """The rows that are done; None where none is."""


def run_ablation(
    ablation: Ablation,
    data: Path,
    out: Path,
    places: Sequence[Place],
    references: Sequence[str] = (),
    minutes: float | None = None,
    cache: Path | None = None,
    planned_in: Sequence[Path] = (),
) -> AblationResult:
    """Train, register and score every row, and write `table.md`, `.tex`, `.csv` and `statistics/`.

    Called again, with the same or more rows, it does what is not done yet. Several places do jobs side by side.

    Args:
        data: dataset folder with training images, pairs and labels.
        out: the ablation's folder: `runs/`, `rows/`, `references/` and the tables.
        references: reference methods to score beside the rows.
        minutes: stop after this time; a later call continues.
        planned_in: the files of the user that say what the ablation is.

    Raises:
        ManifestError, RecipeError, RequestError: nothing was started.
    """
    _require_dataset(data)
    require_writable(out)
    require_folder_apart(out, data)
    require_apart([out / _PLAN, *(out / f"table.{form}" for form in FORMS)], planned_in)
    jobs = list_jobs(ablation, references)
    for job in jobs:
        job.check(out)
    write_text_atomically(out / _PLAN, _plan(ablation))
    failures = work_side_by_side(jobs, data, out, places, minutes, cache)
    return AblationResult(failures, _write_tables(out, jobs, ablation.columns))


def _require_dataset(data: Path) -> None:
    """Check that the images which all rows train on and are scored by are there.

    Raises:
        ManifestError: a JSON or a listed image is missing or cannot be used.
    """
    path = find_dataset_json(data)
    dataset = read_dataset(path)
    images = [entry.image for entry in dataset.training]
    images += [image for pair in dataset.validation for image in (pair.fixed, pair.moving)]
    require_files(data, images, path)
    find_evaluation_configs(data)


def _plan(ablation: Ablation) -> str:
    """Tell a reader as JSON which row is trained by which runs."""
    rows = [
        {
            "row": row.name,
            "folder": f"rows/{row.folder}",
            "ingredients": row.ingredients,
            "runs": [f"runs/{run.folder}" for run in row.runs],
        }
        for row in ablation.rows
    ]
    starts = {f"runs/{run.folder}": f"runs/{run.start.folder}" for run in ablation.runs if run.start is not None}
    return json.dumps({"name": ablation.name, "rows": rows, "starts_from": starts}, indent=1) + "\n"


def _write_tables(out: Path, jobs: Sequence[Job], columns: ColumnSet) -> PaperTable | None:
    """Write the table and the statistics of the rows that are done, each row compared with the one before it."""
    scored = [out / job.name for job in jobs if (out / job.name / CARD_NAME).exists() and job.is_done(out)]
    if not scored:
        return None
    methods = read_rows([folder / "metrics.json" for folder in scored])
    table = PaperTable.of(methods, column_set=columns)
    for form in FORMS:
        table.write(out / f"table.{form}")
    designs = columns is ColumnSet.DESIGNS
    for name, statistics in make_statistics(methods, designs=designs, column_set=columns).items():
        write_text_atomically(out / "statistics" / f"{name}.csv", statistics.to_csv(index=False))
    return table
