"""How long scoring takes: a full-size synthetic pair, every metric on its own, the whole pair from cold files."""

from __future__ import annotations

import json
import os
import platform
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
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from data_manifests.evaluation import find_evaluation_configs
from data_manifests.structures import structures
from eval.cache import result_key
from eval.cases import Case, list_cases
from eval.folding import measure_folding
from eval.inputs import Inputs
from eval.landmarks import landmark_errors
from eval.overlap import confusion_matrix, dice_per_label, index_map, label_index
from eval.scoring import score_case
from eval.surface import find_surfaces, surface_scores_per_label
from eval.warping import warp_labels
from registration.progress import Progress
from registration.volume import write_displacement, write_text_atomically, write_volume

FULL_SIZE = (160, 224, 192)
_LANDMARKS = 16


@dataclass(frozen=True)
class Timing:
    """Median, smallest and largest of the repeats, in seconds of the wall clock and of the processor."""

    wall_s: tuple[float, float, float]
    cpu_s: tuple[float, float, float]


@dataclass(frozen=True)
class ScoringBench:
    """What `bench_scoring` found; `timings` by stage, `first_pair` for a process that starts from nothing."""

    machine: str
    shape: tuple[int, int, int]
    labels: int
    ndv_percent: float
    repeats: int
    first_pair_s: float
    peak_memory_gib: float
    timings: dict[str, Timing] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """The table for people."""
        lines = [
            f"Scoring one pair, {' x '.join(map(str, self.shape))}, {self.labels} labels, "
            f"NDV {self.ndv_percent:.2g} %; one thread of {self.machine}.",
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
        out: folder for the results and, under `pair`, the files that are scored.
        repeats: how often each stage is timed.
        shape: (X, Y, Z) of the images.
    """
    root = out / "pair"
    _make_pair(root, shape)
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
    labels = len(case.methods[1].labels)
    bench = ScoringBench(machine_name(), shape, labels, ndv_percent, repeats, first_pair_s, peak_memory, timings)
    write_text_atomically(out / "scoring.json", json.dumps(asdict(bench), indent=1) + "\n")
    write_text_atomically(out / "scoring.md", bench.to_markdown())
    return bench


def machine_name() -> str:
    """The processor's name, as Linux gives it, or else what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def _score_in_new_process(case: Case) -> tuple[float, float]:
    """CPU seconds this process has used when the case is scored, and its peak memory in GiB."""
    import resource  # not on every system, and nothing else in the command needs it

    torch.set_num_threads(1)
    score_case(Inputs(case))
    unit = 2**30 if platform.system() == "Darwin" else 2**20  # ru_maxrss is in bytes there, in KiB elsewhere
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class _Stopwatch:
    """Collects wall and CPU seconds by stage."""

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
    """Time every stage `repeats` times, after one round that is not counted; also the field's NDV in percent."""
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
    inputs, labels = Inputs(case), case.methods[1].labels
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


def _make_pair(root: Path, shape: tuple[int, int, int]) -> None:
    """Write a ground-truth folder of one pair; the same shape gives the same bytes."""
    rng = np.random.default_rng(0)
    ids = sorted(structures())
    seeds = rng.uniform(-1, 1, (4 * len(ids), 3))
    seeds = seeds[np.linalg.norm(seeds, axis=1) < 1][: len(ids) - 1]
    for number in (3455, 3454):
        label_map = _dense_labels(shape, seeds + rng.normal(0, 0.03, seeds.shape), ids, rng)
        image = np.where(label_map > 0, 50 + label_map // 2, 0).astype(np.uint8)
        name = f"LUMIRMRI_{number}_0000.nii.gz"
        points = _landmarks(label_map, ids[1 : _LANDMARKS + 1])
        for folder, data in (("imagesVal", image), ("labelsVal", label_map), ("landmarksVal", points)):
            write_volume(root / folder / name, data, np.eye(4))
    disp_vox = np.stack([_smooth_noise(shape, 24, 6.0, rng) + _smooth_noise(shape, 6, 0.5, rng) for _ in range(3)], -1)
    write_displacement(root / "fields" / "disp_3455_3454.nii.gz", np.asfortranarray(disp_vox), np.eye(4))
    methods = [
        {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
        {"name": "DSC", "metric": "dice", "labels": ids},
        {"name": "HD95", "metric": "hd95", "labels": ids},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
    ]
    images = [f"./imagesVal/LUMIRMRI_{number}_0000.nii.gz" for number in (3455, 3454)]
    config = {
        "name": "bench",
        "evaluation_methods": methods,
        "expected_shape": [*shape, 3],
        "eval_pairs": [{"fixed": images[0], "moving": images[1]}],
    }
    write_text_atomically(root / "LUMIR25_VAL_LUMIR24_Segmentation_evaluation_config.json", json.dumps(config))


def _dense_labels(
    shape: tuple[int, int, int], seeds: NDArray[np.float64], ids: list[int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A ball that fills most of the grid, cut into one cell a seed with wavy borders; 0 outside."""
    axes = [np.linspace(-1.15, 1.15, size) for size in shape]
    points = np.stack([along + _smooth_noise(shape, 6, 0.03, rng) for along in np.meshgrid(*axes, indexing="ij")], -1)
    brain = (points**2).sum(axis=-1) < 1
    label_map = np.zeros(shape, dtype=np.uint8)
    label_map[brain] = np.array(ids[1:], dtype=np.uint8)[cKDTree(seeds).query(points[brain])[1]]
    return label_map


def _landmarks(label_map: NDArray[np.uint8], ids: list[int]) -> NDArray[np.uint8]:
    """A blob of 3 x 3 x 3 voxels at the centroid of each of some labels, numbered from 1."""
    points = np.zeros_like(label_map)
    for number, label in enumerate(ids, start=1):
        centre = np.argwhere(label_map == label).mean(axis=0).round().astype(int)
        points[tuple(slice(max(at - 1, 0), at + 2) for at in centre)] = number
    return points


def _smooth_noise(
    shape: tuple[int, int, int], wavelength_vox: float, amplitude: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random waves of about the given length and standard deviation."""
    coarse = tuple(max(4, round(2 * size / wavelength_vox)) for size in shape)
    noise = gaussian_filter(rng.normal(size=coarse), 0.7)
    fine = zoom(noise, np.array(shape) / coarse, order=1, mode="nearest", grid_mode=True)
    return np.asarray(amplitude * fine / fine.std(), dtype=np.float32)


def _cell(values: tuple[float, float, float]) -> str:
    median, low, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
