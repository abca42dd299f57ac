"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lumirkit.base.ahead import one_ahead
from lumirkit.base.outputs import require_folder_apart
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.kernels.precompile import Precompilation, Task
from lumirkit.train.data import GroupSampler, Subset, TrainingImages
from lumirkit.train.deadline import Deadline
from lumirkit.train.model import Model
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe
from lumirkit.train.reporting import Reporter
from lumirkit.train.run_folder import RunFolder
from lumirkit.train.step import Stepper, check_stages
from lumirkit.train.validation import Validation


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    processes: Processes,
    deadline: Deadline | None = None,
    cache: Path | None = None,
    start: Path | None = None,
    allow_other_images: bool = False,
) -> Path:
    """Train a recipe on a dataset folder, or continue an interrupted run; returns the path of the weights.

    Every process of a run calls this with the same arguments; the first one writes the files.

    Args:
        data: folder with `*dataset.json` and the images.
        out: run folder, on a file system that all processes share.
        processes: this process, its device and the others.
        deadline: when to stop early, with a checkpoint to continue from.
        cache: folder for the decoded images; None for memory, or the disk where memory is short.
        start: folder of a finished run of the recipe's first stages, which are then not trained again.
        allow_other_images: go on where the images are others than those that were trained on so far.

    Raises:
        ManifestError, VolumeError, RecipeError, RequestError, WeightsError, StoreError: the recipe, the data or the
            folder cannot be used; nothing was started.
        TrainingError, CheckpointError: training cannot go on; the last checkpoint is good.
    """
    require_folder_apart(out, data)
    run = RunFolder(out, recipe, start)
    run.require_own()
    model = Model(recipe, processes.device)
    check_stages(model.network, recipe.stages, processes)
    with run.alone(processes), _telling_of_interruption(run, processes):
        _train_stages(_prepare(model, data, run, processes, deadline or Deadline(), cache, allow_other_images))
    return run.weights


@contextmanager
def _telling_of_interruption(run: RunFolder, processes: Processes) -> Iterator[None]:
    """Say after Ctrl-C, which goes on as it is, from where the run will continue."""
    try:
        yield
    except KeyboardInterrupt:
        if processes.is_first:
            say_to_stderr(
                f"{run.path}: interrupted; saved up to step {run.last_step()} of {run.recipe.n_steps}. The same "
                "command goes on from there."
            )
        raise


@dataclass(frozen=True)
class _Job:
    """What all stages of one run share."""

    recipe: Recipe
    model: Model
    samplers: list[GroupSampler]
    validation: Validation | None
    run: RunFolder
    reporter: Reporter
    processes: Processes
    deadline: Deadline


def _prepare(
    model: Model,
    data: Path,
    run: RunFolder,
    processes: Processes,
    deadline: Deadline,
    cache: Path | None,
    allow_other_images: bool,
) -> _Job:
    """Check the data, then make or find the run folder and bring the model to where its run stands."""
    recipe = run.recipe
    validation = Validation(data, recipe.validation, processes) if recipe.validation else None
    with_labels = any(stage.needs_label_maps for stage in recipe.stages)
    compiling = Precompilation([Task.TRAIN] if processes.is_first and processes.device.type == "cpu" else [])
    images = TrainingImages(data, processes, cache, _few_shot(recipe), with_labels)
    samplers = [
        GroupSampler(images, recipe.seed, number, stage.images_per_item, stage.n_images)
        for number, stage in enumerate(recipe.stages)
    ]
    if processes.is_first:
        run.prepare(data, images.sha256, processes, allow_other_images)
        compiling.wait()
    processes.wait()
    run.restore_model(model)
    model.fit_harmonisation(images)
    reporter = Reporter(run, processes)
    if run.remark:
        reporter.say(run.remark)
    if recipe.initial_weights is not None and run.last_step() == 0:
        reporter.say(model.remark)
    if validation is not None:
        reporter.say(validation.remark)
    return _Job(recipe, model, samplers, validation, run, reporter, processes, deadline)


def _few_shot(recipe: Recipe) -> Subset:
    """The subset of images that some stage trains on; generated pairs need none, but the shape of any."""
    counts = [stage.n_images for stage in recipe.stages if stage.draws_images]
    every = not counts or None in counts
    return Subset(None if every else max(count for count in counts if count is not None), recipe.subset_seed)


def _train_stages(job: _Job) -> None:
    """Train from where the run stands to its end, or until time is up."""
    step, last = job.run.last_step(), job.recipe.n_steps
    if 0 < step < last:
        job.reporter.say(f"{job.run.path}: goes on after step {step} of {last}")
    with closing(job.reporter):
        for number, stage in enumerate(job.recipe.stages):
            if step < job.recipe.start_of(number) + stage.steps:
                step, late = _train_stage(job, number, step)
                if late:
                    break


def _train_stage(job: _Job, number: int, step: int) -> tuple[int, bool]:
    """Train one stage on from `step`, counted over all stages; returns the step reached and whether time is up."""
    stage, start = job.recipe.stages[number], job.recipe.start_of(number)
    stepper = Stepper(job.model.network, stage, number, job.samplers[number], job.processes)
    if step > start:
        stepper.load_state(job.run.stage_state())
        _validate_if_due(job, number, step)
    late = False
    batches = one_ahead(stepper.batches.load, range(step - start, stage.steps))
    with job.reporter.stage(number, step - start) as report, closing(batches):
        for batch in report.timed(batches):
            terms = stepper.take(batch)
            job.model.after_step()
            step = start + batch.step + 1
            report.step(step, terms, stepper.learning_rate)
            late = job.processes.any(job.deadline.passed)
            if late or (batch.step + 1) % stage.steps_per_epoch == 0:
                if job.processes.is_first:
                    job.run.save(job.model, stepper.state(), number, step)
                if late:
                    break
                _validate_if_due(job, number, step)
    return step, late


def _validate_if_due(job: _Job, number: int, step: int) -> None:
    """Validate at the end of the epochs that the recipe names and of the stage, unless that was done before."""
    stage, plan = job.recipe.stages[number], job.recipe.validation
    if plan is None or job.validation is None or step in job.reporter.validated:
        return
    done = step - job.recipe.start_of(number)
    epochs, into_epoch = divmod(done, stage.steps_per_epoch)
    if into_epoch == 0 and (epochs % plan.every_epochs == 0 or done == stage.steps):
        result = job.validation.run(job.model.result)
        if result is not None:
            job.reporter.validation(step, number, result, job.model)
