"""The embedded default: phantom data, two small models, fields, scores. Needs no data and no GPU."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, redirect_stderr
from functools import partial
from pathlib import Path

import joblib
import torch
from rich.console import Console

from lumirkit import train
from lumirkit.base import engine
from lumirkit.base.errors import RequestError
from lumirkit.base.files import write_text_atomically
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.report.scores import write_report
from lumirkit.eval.tables.rows import RowCard
from lumirkit.eval.tables.summary import summary_table
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.phantoms.dataset import make_dataset, subjects
from lumirkit.registration.device import Place
from lumirkit.registration.kernels.precompile import Precompilation, Task
from lumirkit.submission.predict import predict_dataset
from lumirkit.train.loop import train as train_recipe
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import load_recipe

RECIPE = Path(train.__file__).parent / "recipes" / "demo.yaml"
MEMBERS = 2


def run_demo(out: Path, spec: PhantomSpec | None = None, recipe: Path = RECIPE) -> None:
    """Make data, train, register, score and print the table before and after registration.

    Args:
        out: folder for everything that is made; an earlier demo there is replaced.
        spec: what the phantom brains look like.

    Raises:
        RequestError: `out` holds something that is no earlier demo.
    """
    console = Console()
    marker = out / ".lumirkit-demo"
    if out.exists():
        if not marker.exists() and any(out.iterdir()):
            raise RequestError(f"{out}: the folder holds other files; name a new or empty folder with --out.")
        shutil.rmtree(out)
    write_text_atomically(marker, "made by `lumirkit demo`; replaced by the next one\n")
    data, weights, fields = out / "data", out / "weights", out / "fields"

    console.print("[bold]1/4[/] phantom brains in the challenge's layout")
    compiling = Precompilation([Task.TRAIN])
    _make_data(data, spec or PhantomSpec())
    compiling.wait()
    console.print(f"[bold]2/4[/] training {MEMBERS} small MIND networks on T1-like images")
    weights.mkdir()
    side_by_side = engine.Processes(min(MEMBERS, joblib.cpu_count()))
    list(side_by_side.outcomes(partial(_train, recipe, data, out), range(MEMBERS)))
    console.print(f"[bold]3/4[/] registering the validation pairs with the average of {MEMBERS} models")
    status = predict_dataset(find_dataset_json(data), data, fields, [weights], Place(torch.device("cpu")))
    assert not status.failures, status.failures
    console.print("[bold]4/4[/] scoring as the leaderboard does")
    before = evaluate(data, None, description="scoring before registration")
    after = evaluate(data, fields, description="scoring after registration")
    assert not (before.failures or after.failures), (before.failures, after.failures)
    write_text_atomically(out / "metrics_before.json", before.to_json())
    write_text_atomically(out / "metrics.json", after.to_json())
    cards = {"after": RowCard(name="after"), "before": RowCard(name="before", is_reference=True)}
    write_report(out / "report.html", {"after": after, "before": before}, cards, pairs_per_split=1)
    console.print(summary_table({"before": before, "after": after}))
    console.print(
        f"report:  {out / 'report.html'}\n"
        f"fields:  {fields}\n"
        f"metrics: {out / 'metrics.json'} and {out / 'metrics_before.json'}\n"
        f"weights: {weights}\n"
        f"logs:    {out / 'model0' / 'log.jsonl'} and {out / 'model1' / 'log.jsonl'}\n"
        f"data:    {data}",
        highlight=False,
    )


def _train(recipe: Path, data: Path, out: Path, seed: int) -> None:
    """Train one model, and put its weights beside those of the others.

    They are trained at the same time; what the first one shows stands for all.
    """
    with ExitStack() as silence:
        if seed > 0:
            silence.enter_context(redirect_stderr(silence.enter_context(Path(os.devnull).open("w"))))
        settings = load_recipe(recipe, [f"seed={seed}"])
        trained = train_recipe(settings, data, out / f"model{seed}", Processes(torch.device("cpu")))
    shutil.copy(trained, out / "weights")


def _make_data(root: Path, spec: PhantomSpec) -> None:
    with Progress(len(subjects(spec)), "making subjects") as progress:
        make_dataset(root, spec, progress.advance)
