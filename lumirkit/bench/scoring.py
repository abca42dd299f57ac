"""The time of scoring a full-size synthetic pair: every metric on its own, and the whole pair from cold files."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from lumirkit.base.files import write_text_atomically
from lumirkit.base.memory import peak_memory_bytes
from lumirkit.base.progress import Progress
from lumirkit.bench.kinds import FULL_SIZE
from lumirkit.bench.machine import machine_name
from lumirkit.bench.scoring_pair import make_pair
from lumirkit.data_manifests.evaluation_config import find_evaluation_configs
from lumirkit.eval.cache import result_key
from lumirkit.eval.cases import Case, list_cases
from lumirkit.eval.inputs import Inputs
from lumirkit.eval.metrics.dice import confusion_matrix, dice_per_label, index_map, label_index
from lumirkit.eval.metrics.hausdorff import find_surfaces, surface_scores_per_label
from lumirkit.eval.metrics.ndv import measure_folding
from lumirkit.eval.metrics.shared.warping import warp_labels
from lumirkit.eval.metrics.tre import landmark_errors
from lumirkit.eval.scoring import score_case
from lumirkit.eval.tables.digits import two_digits


@dataclass(frozen=True)
class Timing:
    """The median, smallest and largest of the repeats, in seconds of the wall clock and of the processor."""

    wall_s: tuple[float, float, float]
    cpu_s: tuple[float, float, float]


@dataclass(frozen=True)
class ScoringBench:
    """The result of `bench_scoring`: `timings` by stage, and `first_pair_s` for a process that starts from nothing."""

    machine: str
    shape: tuple[int, int, int]
    labels: int
    ndv_percent: float
    repeats: int
    first_pair_s: float
    peak_memory_gib: float
    timings: dict[str, Timing] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Write the result as a table for people."""
        lines = [
            f"Scoring one pair, {' x '.join(map(str, self.shape))}, {self.labels} labels, "
            f"NDV {two_digits(self.ndv_percent)} %; one thread of {self.machine}.",
            f"Median of {self.repeats} (smallest to largest), seconds.",
            "",
            "| stage | wall | CPU |",
            "|---|---|---|",
        ]
        lines += [f"| {stage} | {_cell(t.wall_s)} | {_cell(t.cpu_s)} |" for stage, t in self.timings.items()]
        return "\n".join(
            [
                *lines,
                "",
                f"A new process: {self.first_pair_s:.1f} s of CPU to its first result (imports, compiled code loaded), "
                f"peak memory {self.peak_memory_gib:.2f} GiB.",
                "",
            ]
        )


def bench_scoring(out: Path, repeats: int = 5, shape: tuple[int, int, int] = FULL_SIZE) -> ScoringBench:
    """Make a pair with dense labels and a folding field, time its scoring, write scoring.md and scoring.json.

    Args:
        out: the folder for the results and, under `pair`, the files that are scored.
        repeats: the number of times that each stage is timed.
        shape: (X, Y, Z) of the images.
    """
    root = out / "pair"
    make_pair(root, shape)
    case = list_cases(find_evaluation_configs(root), root, root / "fields")[0]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        fresh.submit(_score_in_new_process, case).result()  # fills the cache of compiled code
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        first_pair_s, peak_memory = fresh.submit(_score_in_new_process, case).result()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timings, ndv_percent = _time_stages(case, repeats)
    finally:
        torch.set_num_threads(threads)
    labels = len(case.metrics[1].labels)
    bench = ScoringBench(machine_name(), shape, labels, ndv_percent, repeats, first_pair_s, peak_memory, timings)
    write_text_atomically(out / "scoring.json", json.dumps(asdict(bench), indent=1) + "\n")
    write_text_atomically(out / "scoring.md", bench.to_markdown())
    return bench


def _score_in_new_process(case: Case) -> tuple[float, float]:
    """Score a case; returns the CPU seconds that this process has used by then, and its peak memory in GiB."""
    torch.set_num_threads(1)
    score_case(Inputs(case))
    return time.process_time(), peak_memory_bytes() / 2**30


class _Stopwatch:
    """A collection of wall and CPU seconds by stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = time.perf_counter() - wall, time.process_time() - cpu
        self._seconds.setdefault(stage, []).append(spent)

    def timings(self) -> dict[str, Timing]:
        def summary(values: list[float]) -> tuple[float, float, float]:
            return statistics.median(values), min(values), max(values)

        return {
            stage: Timing(summary([wall for wall, _ in both]), summary([cpu for _, cpu in both]))
            for stage, both in self._seconds.items()
        }


def _time_stages(case: Case, repeats: int) -> tuple[dict[str, Timing], float]:
    """Time every stage `repeats` times, after one round that is not counted.

    Returns:
        The timings by stage, and the field's NDV in percent.
    """
    watch = _Stopwatch()
    with Progress(repeats + 1, "scoring") as progress:
        for repeat in range(repeats + 1):
            if repeat == 1:
                watch = _Stopwatch()
            ndv_percent = _run_stages(case, watch)
            progress.advance()
    return watch.timings(), ndv_percent


def _run_stages(case: Case, watch: _Stopwatch) -> float:
    _forget_files(case)
    with watch.time("whole pair, cold files"):
        inputs = Inputs(case)
        result_key(inputs)
        score_case(inputs)
    _forget_files(case)
    inputs, labels = Inputs(case), case.metrics[1].labels
    with watch.time("reading all files, cold"):
        disp_vox, mask = inputs.displacement(), inputs.mask()
        fixed, moving = inputs.maps("labels")
        points_fixed, points_moving = inputs.maps("landmarks")
    with watch.time("warping the labels"):
        warped = warp_labels(moving, disp_vox)
    with watch.time("Dice"):
        table = label_index(labels)
        fixed_index, moving_index, warped_index = (index_map(each, table) for each in (fixed, moving, warped))
        in_moving = np.bincount(moving_index.reshape(-1, order="F"), minlength=len(labels) + 1)
        dice_per_label(confusion_matrix(fixed_index, warped_index, len(labels) + 1), in_moving)
    with watch.time("HD95, HD100, surface Dice"):
        surfaces_fixed, surfaces_warped = (find_surfaces(each, len(labels)) for each in (fixed_index, warped_index))
        surface_scores_per_label(surfaces_fixed, surfaces_warped, in_moving[:-1] > 0)
    with watch.time("TRE"):
        landmark_errors(points_fixed, points_moving, warp_labels(points_moving, disp_vox), disp_vox, np.eye(4))
    with watch.time("NDV, folded voxels, SD log J"):
        folding = measure_folding(disp_vox, mask)
    return folding.percent


def _forget_files(case: Case) -> None:
    """Ask the system to drop the case's files from memory, where it can be asked."""
    advise: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    for path in case.files():
        with path.open("rb") as file:
            advise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cell(values: tuple[float, float, float]) -> str:
    median, low, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
