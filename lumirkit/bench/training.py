"""The time of a few steps of a recipe as `lumirkit train` takes them: with its images, its augmentation and its log."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel

from lumirkit.base.files import write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.base.training_log import STEPS, read_log
from lumirkit.bench.kinds import Shape
from lumirkit.bench.machine import Machine, describe_machine
from lumirkit.bench.report import digits, markdown_row, spread
from lumirkit.bench.work import Spread
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.phantoms.dataset import make_dataset
from lumirkit.registration.device import choose_device
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, Stage

FILES = ("training.json", "training.md")
_MADE_IMAGES = 4
_COLUMNS = ("stage", "a step takes", "s a step", "waiting for images, %", "samples a second", "peak GB")


class StageBench(BaseModel):
    """The steps of one stage, the first one left out: it compiles, and waits for the first images."""

    items: str
    """What a step takes, such as 4 pairs."""
    seconds: Spread
    """Of a step, the time that it waited for its images left out."""
    waited_percent: float
    """The share of the time that steps waited for their images."""
    samples_per_second: float
    peak_memory_gb: float
    """The most memory until the end of the stage: that of the process, or what torch allocated on a GPU."""


class TrainingBench(BaseModel):
    """The result of `bench_training`, stage by stage."""

    machine: Machine
    recipe: str
    images: str
    """What it was trained on: a folder, or the size of images that were made."""
    steps: int
    stages: list[StageBench]

    def to_markdown(self) -> str:
        """Write the result as a table for people."""
        machine = self.machine
        lines = [
            f"Training {self.recipe} on {self.images}: {machine.name}; device "
            f"{machine.device}; torch {machine.torch}; {machine.threads} threads; {machine.date}.",
            f"Median of {self.steps - 1} steps (smallest to largest) after one that warms up; GB are 10^9 bytes.",
            "",
            markdown_row(_COLUMNS),
            markdown_row(["---"] * len(_COLUMNS)),
        ]
        for number, stage in enumerate(self.stages, 1):
            numbers = map(digits, (stage.waited_percent, stage.samples_per_second, stage.peak_memory_gb))
            lines.append(markdown_row([str(number), stage.items, spread(stage.seconds), *numbers]))
        return "\n".join([*lines, ""])


def bench_training(
    recipe: Recipe, images: Path | Shape, device: str, steps: int, threads: int, out: Path
) -> TrainingBench:
    """Take some steps of each stage of a recipe in a run of its own, and write training.md and training.json.

    Args:
        recipe: what is trained.
        images: the dataset folder to train on, or the size (X, Y, Z) of images to make.
        device: cpu, cuda or cuda:<n>.
        steps: how many of each stage, at least 2, as the first one warms up.
        threads: torch's threads, for the description of the machine.
        out: the folder for the results.

    Raises:
        RequestError, RecipeError, ManifestError, VolumeError: recipe, device or images cannot be used.
        TrainingError: a step failed, say for want of memory.
    """
    require_apart([out / name for name in FILES], [images] if isinstance(images, Path) else [])
    processes = Processes(choose_device(device))
    shortened = _shortened(recipe, steps)
    machine = describe_machine(device, threads)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        run = Path(folder) / "run"
        train(shortened, _dataset(images, Path(folder) / "data"), run, processes)
        log = [line.numbers for line in read_log(run / STEPS)]
    stages = [
        _summary(stage, [line for line in log if line["stage"] == number][1:])
        for number, stage in enumerate(shortened.stages)
    ]
    seen = str(images) if isinstance(images, Path) else f"images of {' x '.join(map(str, images))}"
    bench = TrainingBench(machine=machine, recipe=recipe.name, images=seen, steps=steps, stages=stages)
    as_json, as_markdown = FILES
    write_text_atomically(out / as_json, bench.model_dump_json(indent=1) + "\n")
    write_text_atomically(out / as_markdown, bench.to_markdown())
    return bench


def _shortened(recipe: Recipe, steps: int) -> Recipe:
    """A recipe with some steps of each stage, and without validation."""
    stages = [
        stage.model_copy(update={"epochs": 1, "items_per_epoch": steps * stage.batch_size}) for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": tuple(stages), "validation": None})


def _dataset(images: Path | Shape, made: Path) -> Path:
    """The folder of the images, which are made where only their size is given."""
    if isinstance(images, Path):
        return images
    make_dataset(made, PhantomSpec(shape=images, n_train=_MADE_IMAGES, pairs_per_split=1))
    return made


def _summary(stage: Stage, log: list[dict[str, float]]) -> StageBench:
    seconds = [line["seconds"] for line in log]
    waited = sum(line["waited_seconds"] for line in log)
    whole = sum(seconds) + waited
    item = "triplet" if stage.images_per_item == 3 else "pair"
    return StageBench(
        items=f"{stage.batch_size} {item}{'' if stage.batch_size == 1 else 's'}",
        seconds=Spread.from_values(seconds),
        waited_percent=100 * waited / whole,
        samples_per_second=stage.batch_size * len(log) / whole,
        peak_memory_gb=max(line["memory_gb"] for line in log),
    )
