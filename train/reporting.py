"""What a run tells while it goes on: log files, TensorBoard, pictures, and a progress display."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from lumirkit.base.memory import peak_bytes_on
from lumirkit.base.progress import Progress
from lumirkit.base.screen import say_to_stderr
from lumirkit.train.board import Board, open_board
from lumirkit.train.model import Model
from lumirkit.train.objective import Terms
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Stage
from lumirkit.train.run_folder import RunFolder
from lumirkit.train.validation import ValidationResult

Item = TypeVar("Item")


class Reporter:
    """Writes what the first process of a run has to tell; the others keep silent."""

    def __init__(self, run: RunFolder, processes: Processes) -> None:
        self._run, self._processes = run, processes
        earlier = run.validations()
        self.validated: set[int] = {entry["step"] for entry in earlier}
        """The steps after which the run was validated."""
        self._best = max((entry["score"] for entry in earlier), default=float("-inf"))
        self._board = open_board(run.path / "tensorboard", run.last_step(), self.say) if processes.is_first else None

    def close(self) -> None:
        """Write what is still in memory."""
        if self._board is not None:
            self._board.close()

    def say(self, text: str) -> None:
        """Print one line, once for all processes."""
        if self._processes.is_first:
            say_to_stderr(text)

    @contextmanager
    def stage(self, number: int, done: int) -> Iterator[StageReport]:
        """Report stage `number`, of which `done` steps are done."""
        recipe = self._run.recipe
        stage = recipe.stages[number]
        title = f"stage {number + 1} of {len(recipe.stages)}"
        self.say(f"{title}: {_plan(stage, recipe.seed, self._processes)}")
        with Progress(stage.steps, title, done, silent=not self._processes.is_first) as progress:
            yield StageReport(number, stage, self._run, self._board, progress, self._processes.device)

    def validation(self, step: int, number: int, result: ValidationResult, model: Model) -> None:
        """Note the result of a validation, and keep the weights if they are the best so far."""
        self.validated.add(step)
        is_best = result.score > self._best
        self._best = max(self._best, result.score)
        if self._board is None:
            return
        entry = {"stage": number, "step": step, "score": result.score}
        self._run.log_validation(entry | {name.replace(" ", "_"): value for name, value in result.means.items()})
        for split, picture in result.pictures.items():
            self._run.save_picture(f"step_{step:08d}_{split.replace(' ', '_')}", picture)
        self._board.scalars("validation", {"score": result.score} | result.means, step)
        self._board.pictures("validation", result.pictures, step)
        if is_best:
            self._run.save_best(model, step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in result.means.items())
        remark = " (best so far)" if is_best else ""
        self.say(f"validation after step {step}: score {result.score:.4f}{remark}; {shown}")


class StageReport:
    """Writes one line of the log, one point of the curves and one tick of the progress display a step."""

    def __init__(
        self,
        number: int,
        stage: Stage,
        run: RunFolder,
        board: Board | None,
        progress: Progress,
        device: torch.device,
    ) -> None:
        self._number, self._stage, self._run, self._board = number, stage, run, board
        self._progress, self._device = progress, device
        self._waited = self._started = 0.0

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Pass the batches on, and note how long each is waited for and when its step begins."""
        asked = time.monotonic()
        for batch in batches:
            self._started = time.monotonic()
            self._waited = self._started - asked
            yield batch
            asked = time.monotonic()

    def step(self, step: int, terms: Terms, learning_rate: float) -> None:
        """Report that a step is done; `step` counts over all stages."""
        if self._board is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # what was asked of a GPU is not yet done
        seconds = time.monotonic() - self._started
        stage_step = step - self._run.recipe.start_of(self._number) - 1
        machine = {
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
            "waited_seconds": round(self._waited, 4),
            "samples_per_second": round(self._stage.batch_size / (seconds + self._waited), 3),
            "memory_gb": round(peak_bytes_on(self._device) / 1e9, 2),
        }
        where = {"stage": self._number, "step": step, "epoch": stage_step // self._stage.steps_per_epoch}
        self._run.log(where | terms | machine)
        self._board.scalars("training", terms | machine, step)
        losses = " ".join(f"{name} {value:.4f}" for name, value in terms.items())
        self._progress.advance(f"{losses}, {machine['samples_per_second']:.2f}/s, {machine['memory_gb']:.1f} GB")


def _plan(stage: Stage, seed: int, processes: Processes) -> str:
    items = "triplets" if stage.images_per_item == 3 else "pairs"
    return (
        f"{stage.epochs} epochs of {stage.items_per_epoch} {items} in batches of {stage.batch_size} shared by "
        f"{processes.size} process{'' if processes.size == 1 else 'es'} ({processes.device.type}), "
        f"learning rate {stage.learning_rate:g} ({stage.schedule}), seed {seed}"
    )
