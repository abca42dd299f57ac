"""The pieces of work of an ablation: train a run, score a row, make a reference row. Each is done once and kept."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lumirkit.ablation.plan import Ablation, PlannedRow, Run
from lumirkit.base.errors import KitError, RequestError
from lumirkit.base.files import write_text_atomically
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.eval.baselines.methods import BASELINES
from lumirkit.eval.baselines.run import run_baseline
from lumirkit.eval.leaderboard import ScoringOptions, evaluate
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.rows import CARD_NAME, RowCard, read_card
from lumirkit.registration.architecture import make_network
from lumirkit.registration.device import Place
from lumirkit.registration.weights import load_weights
from lumirkit.submission.predict import predict_dataset
from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.run_folder import RunFolder
from lumirkit.train.step import check_stages

REFERENCE_NAMES = {
    "zero": "zero field",
    "syn": "SyN",
    "convexadam": "ConvexAdam",
    "greedy": "Greedy",
    "spline": "symmetric splines",
}


class JobError(KitError):
    """A piece of work failed; the message says why. The others go on."""

    exit_status = 1


@dataclass(frozen=True)
class Workplace:
    """Where the work is done: the dataset, the ablation's folder, a device, and when to stop."""

    data: Path
    out: Path
    place: Place
    deadline: Deadline
    cache: Path | None = None


@dataclass(frozen=True)
class Job(ABC):
    """A piece of work; `needs` names those that must be done before it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The folder of its result, which no other job of the ablation has."""

    @property
    @abstractmethod
    def needs(self) -> Sequence[str]:
        """The names of the jobs whose results this job uses."""

    def check(self, out: Path) -> None:  # noqa: B027  most have nothing to check
        """Find out, before any job begins, whether this one cannot be done.

        Raises:
            RecipeError: its recipe is impossible, or its folder holds other work.
        """

    @abstractmethod
    def is_done(self, out: Path) -> bool:
        """Whether the job's result lies in the ablation's folder."""

    @abstractmethod
    def do(self, at: Workplace) -> None:
        """Do the job, or go on where it was interrupted.

        Raises:
            JobError: it cannot be done; nothing says that it was.
        """


@dataclass(frozen=True)
class TrainRun(Job):
    """Train one model."""

    run: Run

    @property
    def name(self) -> str:
        """The run folder, `runs/<row>/seed<n>`."""
        return f"runs/{self.run.folder}"

    @property
    def needs(self) -> Sequence[str]:
        """The run whose checkpoint this one starts from."""
        return [f"runs/{self.run.start.folder}"] if self.run.start is not None else []

    def check(self, out: Path) -> None:
        """Check that the run folder is this recipe's, and that all stages of the recipe can be trained.

        Raises:
            RecipeError: the folder holds a run of another recipe, or a stage is impossible.
        """
        RunFolder(out / self.name, self.run.recipe).require_own()
        check_stages(make_network(self.run.recipe.network), self.run.recipe.stages, Processes(torch.device("cpu")))

    def is_done(self, out: Path) -> bool:
        """Whether the last step is in a checkpoint and in the weights."""
        return RunFolder(out / self.name, self.run.recipe).is_done

    def do(self, at: Workplace) -> None:
        """Train on from where the run stands; at the deadline it stops with a checkpoint."""
        start = at.out / self.needs[0] if self.needs else None
        processes = Processes(at.place.device)
        train(self.run.recipe, at.data, at.out / self.name, processes, at.deadline, at.cache, start)


@dataclass(frozen=True)
class ScoreRow(Job):
    """Register the validation pairs with the models of a row, and score the fields."""

    row: PlannedRow
    columns: ColumnSet

    @property
    def name(self) -> str:
        """The row's folder, `rows/<row>`."""
        return f"rows/{self.row.folder}"

    @property
    def needs(self) -> Sequence[str]:
        """The trainings of the row's models."""
        return [f"runs/{run.folder}" for run in self.row.runs]

    def is_done(self, out: Path) -> bool:
        """Whether the row was scored with the weights that its runs have now."""
        return _scored_card(out / self.name) == self._card(out)

    def do(self, at: Workplace) -> None:
        """Make the fields that are not there yet, and score them."""
        weights = [self._weights(run, at.out) for run in self.row.runs]
        folder = at.out / self.name
        refinement = self.row.refinement
        status = predict_dataset(
            find_dataset_json(at.data), at.data, folder / "fields", weights, at.place, refinement=refinement
        )
        if status.failures:
            raise JobError("; ".join(f"{pair.case_name}: {pair.reason}" for pair in status.failures))
        _score(at.data, folder, self._card(at.out), self.columns)

    def _card(self, out: Path) -> RowCard:
        made_by: dict[str, Any] = {f"runs/{run.folder}": _hash(self._weights(run, out)) for run in self.row.runs}
        if self.row.refinement is not None:
            made_by["refinement"] = self.row.refinement.model_dump()
        made_by |= _scored_by(self.columns)
        return RowCard(name=self.row.name, ingredients=self.row.ingredients, made_by=made_by)

    @staticmethod
    def _weights(run: Run, out: Path) -> Path:
        return RunFolder(out / "runs" / run.folder, run.recipe).weights


@dataclass(frozen=True)
class ScoreReference(Job):
    """Make and score the fields of a reference method."""

    baseline: str
    columns: ColumnSet

    @property
    def name(self) -> str:
        """The method's folder, `references/<method>`."""
        return f"references/{self.baseline}"

    @property
    def needs(self) -> Sequence[str]:
        """No job: its fields are made without training."""
        return []

    def is_done(self, out: Path) -> bool:
        """Whether this version of the method was scored."""
        return _scored_card(out / self.name) == self._card()

    def do(self, at: Workplace) -> None:
        """Make the fields that are not there yet, and score them."""
        folder = at.out / self.name
        failures = run_baseline(self.baseline, find_dataset_json(at.data), at.data, folder / "fields")
        if failures:
            raise JobError("; ".join(f"{failure.case_name}: {failure.reason}" for failure in failures))
        _score(at.data, folder, self._card(), self.columns)

    def _card(self) -> RowCard:
        method = BASELINES[self.baseline]()
        made_by: dict[str, Any] = {"baseline": self.baseline, "version": method.package_version()}
        made_by |= _scored_by(self.columns)
        return RowCard(name=REFERENCE_NAMES[self.baseline], is_reference=True, made_by=made_by)


def list_jobs(ablation: Ablation, references: Sequence[str]) -> list[Job]:
    """List all work of an ablation, each row as soon as its models are there.

    Raises:
        RequestError: a reference method does not exist or its package is not installed.
    """
    for name in references:
        if name not in BASELINES:
            raise RequestError(f"reference {name}: expected one of {', '.join(BASELINES)}")
        BASELINES[name]().package_version()
    jobs: list[Job] = [ScoreReference(name, ablation.columns) for name in references]
    trained: set[str] = set()
    for row in ablation.rows:
        for run in row.runs:
            jobs += [TrainRun(each) for each in _with_starts(run) if each.folder not in trained]
            trained |= {each.folder for each in _with_starts(run)}
        jobs.append(ScoreRow(row, ablation.columns))
    return jobs


def _with_starts(run: Run) -> list[Run]:
    return [*(_with_starts(run.start) if run.start is not None else ()), run]


def _scored_by(columns: ColumnSet) -> dict[str, Any]:
    """The entry on a row's card that lets it be scored again where it was scored for other columns."""
    return {} if columns is ColumnSet.LEADERBOARD else {"columns": str(columns)}


def _score(data: Path, folder: Path, card: RowCard, columns: ColumnSet) -> None:
    """Score the fields of a row; its card is written last, and says that all is there."""
    options = ScoringOptions(cache=folder / "metrics.cases", designs=columns is ColumnSet.DESIGNS)
    result = evaluate(data, folder / "fields", description=f"scoring {card.name}", options=options)
    if result.failures:
        raise JobError("; ".join(f"{case}: {reason}" for case, reason in result.failures.items()))
    write_text_atomically(folder / "metrics.json", result.to_json())
    write_text_atomically(folder / CARD_NAME, json.dumps(card.model_dump(mode="json"), indent=1) + "\n")


def _scored_card(folder: Path) -> RowCard | None:
    return read_card(folder) if (folder / "metrics.json").exists() else None


def _hash(weights: Path) -> str:
    return load_weights(weights)[1].sha256 if weights.exists() else ""
