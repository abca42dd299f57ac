"""The run of a benchmark: each planned work is measured in its own process, then one report is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from lumirkit.base.errors import RequestError
from lumirkit.base.outputs import require_apart
from lumirkit.base.progress import Progress
from lumirkit.bench.child import check_reference_in_child, floor_in_child, measure_in_child
from lumirkit.bench.floor import Floor
from lumirkit.bench.kinds import FULL_SIZE, IO_KINDS, SOURCE_KINDS, STEP_SIZE, Kind, Shape
from lumirkit.bench.machine import describe_machine
from lumirkit.bench.options import Options
from lumirkit.bench.plan import load_network, plan_rows
from lumirkit.bench.report import FILES, Report, Row
from lumirkit.bench.scoring import bench_scoring
from lumirkit.bench.work import BenchError
from lumirkit.train.shipped_recipes import find_recipe


def run_bench(sizes: dict[Kind, Sequence[Shape]], options: Options, out: Path, with_scoring: bool = False) -> Report:
    """Measure works at sizes, print tables, and write bench.md and bench.json.

    Args:
        sizes: the works, each with its sizes (X, Y, Z).
        options: how to measure.
        out: the folder for both files.
        with_scoring: whether to also time the scoring of a full-size pair.

    Raises:
        RequestError, RecipeError: the request cannot be carried out; nothing was started.
        BenchError: some works could not be measured; all others are written.
    """
    require_apart([out / name for name in FILES], [find_recipe(options.network)])
    network = load_network(options.network)
    if options.device != "cpu" and not torch.cuda.is_available():
        raise RequestError(f"--device {options.device}: this machine offers no CUDA device to torch; use --device cpu")
    if options.reference:
        check_reference_in_child(options.reference)
    threads = options.threads or torch.get_num_threads()
    planned = [
        row for kind, shapes in sizes.items() for shape in shapes for row in plan_rows(kind, shape, network, options)
    ]
    machine = describe_machine(options.device, threads)
    floor = floor_in_child(options.device, threads)
    rows = _with_steps(_with_references(_measure_all(planned, threads, floor)))
    report = Report(machine=machine, floor=floor, repeats=options.repeats, rows=rows)
    report.write(out)
    if with_scoring:
        report.scoring = bench_scoring(out / "scoring", options.repeats)
        report.write(out)
    report.show(Console())
    _require_success(rows)
    return report


def run_all(options: Options, out: Path) -> Report:
    """Measure every work at its usual size: all at full size, but on a CPU training at half of it.

    Raises:
        RequestError, RecipeError: the request cannot be carried out; nothing was started.
        BenchError: some works could not be measured; all others are written.
    """
    sizes: dict[Kind, Sequence[Shape]] = {kind: [FULL_SIZE] for kind in (Kind.FORWARD, Kind.ENSEMBLE, *IO_KINDS)}
    step_size = STEP_SIZE if options.device == "cpu" else FULL_SIZE
    sizes |= {kind: [step_size] for kind in (Kind.STEP, Kind.TRIPLET, *SOURCE_KINDS)}
    return run_bench(sizes, options, out, with_scoring=True)


def _measure_all(planned: Sequence[Row], threads: int, floor: Floor) -> list[Row]:
    rows = []
    with Progress(len(planned), "measuring") as progress:
        for row in planned:
            rows.append(_measure(row, threads, floor))
            progress.advance(f"{row.work.kind}: {row.what}")
    return rows


def _measure(row: Row, threads: int, floor: Floor) -> Row:
    try:
        found = measure_in_child(row.work, threads)
    except BenchError as error:
        return row.model_copy(update={"error": str(error)})
    least = found.raw_s.median if found.raw_s else None
    if found.convolution_flop:
        least = floor.seconds(found.convolution_flop, row.work.convolutions)
    return row.model_copy(update={"measurement": found, "floor_s": least})


def _with_references(rows: Sequence[Row]) -> list[Row]:
    """Set the public code's median beside each of our rows of the same work and size."""
    theirs = {
        (row.work.kind, row.work.shape): row.measurement.seconds.median
        for row in rows
        if row.work.reference and row.measurement
    }
    ours = [row.model_copy(update={"reference_s": theirs.get((row.work.kind, row.work.shape))}) for row in rows]
    return [row if row.work.reference else beside for row, beside in zip(rows, ours, strict=True)]


def _with_steps(rows: Sequence[Row]) -> list[Row]:
    """Set the median of the first kind of training step beside the pairs that are made for it."""
    steps: dict[Shape, float] = {}
    for row in rows:
        if row.work.kind is Kind.STEP and row.measurement:
            steps.setdefault(row.work.shape, row.measurement.seconds.median)
    return [
        row.model_copy(update={"step_s": steps.get(row.work.shape)}) if row.work.kind in SOURCE_KINDS else row
        for row in rows
    ]


def _require_success(rows: Sequence[Row]) -> None:
    failed = [f"{row.work.kind}, {row.what}, {row.work.shape}:\n{row.error}" for row in rows if row.error]
    if failed:
        raise BenchError("some works could not be measured; all others are written:\n" + "\n".join(failed))
