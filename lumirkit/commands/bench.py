"""The sub-commands of `lumirkit bench`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.bench.kinds import FULL_SIZE, IO_KINDS, SOURCE_KINDS, STEP_SIZE, Kind, Shape
from lumirkit.bench.options import Options, parse_size
from lumirkit.commands.options import Overrides
from lumirkit.registration.precision import Precision

app = typer.Typer(no_args_is_help=True, help="Measure how long things take on this machine, and how much memory.")


class BenchDevice(StrEnum):
    """Where a work runs."""

    CPU = "cpu"
    CUDA = "cuda"


Size = Annotated[list[str] | None, typer.Option("--size", help="Size in voxels, such as 160x224x192; repeatable.")]
Device = Annotated[BenchDevice, typer.Option(help="Where to run.")]
Format = Annotated[
    list[Precision] | None, typer.Option("--convolutions", help="Number format of the convolutions; repeatable.")
]
Network = Annotated[str, typer.Option(help="Recipe whose network is measured: a file, or a shipped one's name.")]
Members = Annotated[int, typer.Option(min=1, help="Models of the ensemble.")]
Repeats = Annotated[int, typer.Option(min=1, help="How often each work is timed, after one call that warms up.")]
Plain = Annotated[bool, typer.Option("--plain", help="Also without the compiled kernels.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; by default what torch takes.")]
Reference = Annotated[
    Path | None, typer.Option(help="Checkout of the public SITReg repository, to be timed in the same run.")
]
ReferenceRepeats = Annotated[int | None, typer.Option(min=1, help="How often the public code is timed.")]
Out = Annotated[Path, typer.Option(help="Folder for bench.md and bench.json.")]

_OUT = Path("runs/bench")


def _measure(kinds: Sequence[Kind], size: list[str] | None, default: Shape, options: Options, out: Path) -> None:
    require_extra("lumirkit bench", "train", "omegaconf")
    shapes = [parse_size(text) for text in size] if size else [default]
    from lumirkit.bench.run import run_bench

    run_bench(dict.fromkeys(kinds, shapes), options, out)


def _formats(precisions: list[Precision] | None) -> list[Precision]:
    return precisions or [Precision.FLOAT32]


@app.command()
def forward(
    size: Size = None,
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lumir25",
    repeats: Repeats = 5,
    plain: Plain = False,
    threads: Threads = None,
    reference: Reference = None,
    reference_repeats: ReferenceRepeats = None,
    out: Out = _OUT,
) -> None:
    """Register one pair with one network."""
    options = Options(device, network, _formats(precisions), 1, repeats, plain, threads, reference, reference_repeats)
    _measure([Kind.FORWARD], size, FULL_SIZE, options, out)


@app.command()
def step(
    size: Size = None,
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lumir25",
    repeats: Repeats = 5,
    plain: Plain = False,
    threads: Threads = None,
    reference: Reference = None,
    reference_repeats: ReferenceRepeats = None,
    out: Out = _OUT,
) -> None:
    """Train one step: forward, loss with folding, backward, optimizer."""
    options = Options(device, network, _formats(precisions), 1, repeats, plain, threads, reference, reference_repeats)
    _measure([Kind.STEP], size, STEP_SIZE, options, out)


@app.command()
def triplet(
    size: Size = None,
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lumir25",
    repeats: Repeats = 5,
    plain: Plain = False,
    threads: Threads = None,
    out: Out = _OUT,
) -> None:
    """Train one step with group consistency, on three images."""
    options = Options(device, network, _formats(precisions), 1, repeats, plain, threads)
    _measure([Kind.TRIPLET], size, STEP_SIZE, options, out)


@app.command()
def sources(
    size: Size = None,
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lite",
    repeats: Repeats = 5,
    threads: Threads = None,
    out: Out = _OUT,
) -> None:
    """Make pairs to train on, of noise, of primitives and of one image, beside a training step."""
    options = Options(device, network, _formats(precisions), 1, repeats, False, threads)
    _measure([Kind.STEP, *SOURCE_KINDS], size, FULL_SIZE, options, out)


@app.command()
def ensemble(
    size: Size = None,
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lumir25",
    members: Members = 5,
    repeats: Repeats = 5,
    plain: Plain = False,
    threads: Threads = None,
    out: Out = _OUT,
) -> None:
    """Register one pair with several networks in lock-step."""
    options = Options(device, network, _formats(precisions), members, repeats, plain, threads)
    _measure([Kind.ENSEMBLE], size, FULL_SIZE, options, out)


@app.command()
def io(size: Size = None, repeats: Repeats = 5, threads: Threads = None, out: Out = _OUT) -> None:
    """Read images and write fields, packed and not."""
    _measure(IO_KINDS, size, FULL_SIZE, Options(repeats=repeats, threads=threads), out)


@app.command()
def scoring(
    out: Annotated[Path, typer.Option(help="Folder for scoring.md, scoring.json and the scored pair.")] = _OUT,
    repeats: Annotated[int, typer.Option(min=1, help="How often each stage is timed.")] = 5,
) -> None:
    """Score one full-size pair, stage by stage."""
    from lumirkit.bench.scoring import bench_scoring

    print(bench_scoring(out, repeats).to_markdown(), end="")


@app.command()
def training(
    recipe: Annotated[str, typer.Option(help="Recipe: a file, or a shipped one's name.")] = "lumir25",
    set_: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="Dataset folder; without it images are made.")] = None,
    size: Annotated[str, typer.Option(help="Size of the images that are made.")] = "160x224x192",
    device: Device = BenchDevice.CPU,
    steps: Annotated[int, typer.Option(min=2, help="Steps of each stage; the first one warms up.")] = 10,
    out: Annotated[Path, typer.Option(help="Folder for training.md and training.json.")] = _OUT,
) -> None:
    """Take some steps of a recipe as `lumirkit train` does, images, augmentation and log included."""
    require_extra("lumirkit bench", "train", "omegaconf")
    images = data or parse_size(size)
    import torch

    from lumirkit.bench.training import bench_training
    from lumirkit.train.recipe import load_recipe
    from lumirkit.train.shipped_recipes import find_recipe

    chosen = load_recipe(find_recipe(recipe), set_ or [])
    print(bench_training(chosen, images, device, steps, torch.get_num_threads(), out).to_markdown(), end="")


@app.command()
def accuracy(
    fixed: Annotated[Path, typer.Argument(help="Fixed image.")],
    moving: Annotated[Path, typer.Argument(help="Moving image, on the same grid.")],
    weights: Annotated[list[Path], typer.Option(help="Weight file, or folder of them; repeatable.")],
    out: Annotated[Path, typer.Option(help="Where to write the numbers (.json).")] = _OUT / "accuracy.json",
) -> None:
    """Compare the fields of the kernels, in float32 and bfloat16, with plain torch in float64."""
    from lumirkit.bench.accuracy import measure_accuracy

    measure_accuracy(weights, fixed, moving, out)


@app.command("all")
def all_(
    device: Device = BenchDevice.CPU,
    precisions: Format = None,
    network: Network = "lumir25",
    members: Members = 5,
    repeats: Repeats = 5,
    plain: Plain = False,
    threads: Threads = None,
    reference: Reference = None,
    reference_repeats: ReferenceRepeats = None,
    out: Out = _OUT,
) -> None:
    """Measure all but `training`: on a CPU step, triplet and sources at half size, all else at full size."""
    options = Options(
        device, network, _formats(precisions), members, repeats, plain, threads, reference, reference_repeats
    )
    require_extra("lumirkit bench", "train", "omegaconf")
    from lumirkit.bench.run import run_all

    run_all(options, out)
