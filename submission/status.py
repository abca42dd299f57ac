"""What a run has done so far, as one JSON file beside the fields."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field
from torch import get_num_threads

from lumirkit.base.files import write_json_atomically
from lumirkit.registration.predictor import Method
from lumirkit.registration.refinement.refine import Taken
from lumirkit.registration.refinement.settings import Refinement

STATUS_NAME = "lumirkit_status"
"""The name of the status file in the folder of the fields, without .json; a shard adds its number."""


class PairState(StrEnum):
    """What became of a pair."""

    WRITTEN = "written"
    KEPT = "kept"
    """The field was there, made by this method from these images."""
    ZERO = "zero field"
    """The pair failed, and a zero field stands for it."""
    FAILED = "failed"


class RunState(StrEnum):
    """How far a run has come."""

    RUNNING = "running"
    DONE = "done"
    DONE_BUT_FAILURES = "done but for failed pairs"
    STOPPED = "stopped"
    """The run stopped at the first failure, as asked for, or by a signal; a restart goes on."""


class StageStatus(BaseModel):
    """One stage of a pair's refinement."""

    grid_vox: int
    loss_before: float
    loss_after: float
    steps: int

    @classmethod
    def of(cls, taken: Taken) -> Self:
        """The status of a stage that was taken."""
        course = taken.course
        return cls(
            grid_vox=taken.stage.grid_vox,
            loss_before=course.loss_before,
            loss_after=course.loss_after,
            steps=course.steps,
        )


class PairStatus(BaseModel):
    """One pair of a run."""

    case_name: str
    field: str
    """The name of the field's file."""
    state: PairState
    seconds: float = 0.0
    """The time from images to field, both in memory; a kept field keeps its time, 0 where that is lost."""
    peak_memory_gb: float = 0.0
    """The most that the run had held on its device (on the CPU: the process) by the end of the pair, in 1e9 bytes."""
    device: str = ""
    convolutions: str = ""
    reason: str = ""
    """Why the pair failed."""
    traceback: str = ""
    """Where the pair failed, if that was not foreseen."""
    warnings: list[str] = []
    refinement: list[StageStatus] = []
    """What each stage of the refinement did, from coarse to fine."""

    @property
    def has_failed(self) -> bool:
        """Whether the pair was not registered."""
        return self.state in (PairState.FAILED, PairState.ZERO)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunStatus(BaseModel):
    """A whole run."""

    state: RunState = RunState.RUNNING
    started: str = Field(default_factory=_now)
    updated: str = ""
    lumirkit: str = Field(default_factory=lambda: version("lumirkit"))
    torch: str = Field(default_factory=lambda: version("torch"))
    machine: str = Field(default_factory=lambda: f"{platform.machine()}, {os.cpu_count()} CPUs")
    threads: int = Field(default_factory=get_num_threads)
    members: int
    weights_sha256: str
    refinement: Refinement | None = None
    peak_process_memory_gb: float = 0.0
    """The most that the process has held, in 1e9 bytes."""
    pairs_asked_for: int
    pairs: list[PairStatus] = []
    earlier: list[PairStatus] = []
    """What an earlier run with these weights told of fields that are there and that this run has not come to."""

    @property
    def failures(self) -> list[PairStatus]:
        """The pairs that were not registered."""
        return [pair for pair in self.pairs if pair.has_failed]

    @property
    def warnings(self) -> list[str]:
        """What was remarked of the pairs, each with the name of its pair."""
        return [f"{pair.case_name}: {warning}" for pair in self.pairs for warning in pair.warnings]

    @classmethod
    def made_before(cls, path: Path, method: Method) -> dict[str, PairStatus]:
        """The pairs that an earlier run by this method and version registered, by field; none where none is told of.

        Another version may register otherwise, so its fields are made anew, see `Maker.stamp`.
        """
        try:
            account = cls.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            return {}
        made = (PairState.WRITTEN, PairState.KEPT)
        told = account.weights_sha256, account.refinement, account.lumirkit
        same = told == (method.weights_sha256, method.refinement, version("lumirkit"))
        return {pair.field: pair for pair in (*account.earlier, *account.pairs) if same and pair.state in made}

    @classmethod
    def made_beside(cls, path: Path, method: Method) -> dict[str, PairStatus]:
        """The pairs that runs of other shards of a dataset registered by this method, and how long each took."""
        if not path.name.startswith(STATUS_NAME):
            return {}
        others = [other for other in sorted(path.parent.glob(f"{STATUS_NAME}*.json")) if other != path]
        told = [pair for other in others for pair in cls.made_before(other, method).values()]
        return {pair.field: pair for pair in told if pair.seconds}

    def write(self, path: Path) -> None:
        """Write the run's status as JSON, atomically."""
        self.updated = _now()
        write_json_atomically(path, self.model_dump(mode="json"))
