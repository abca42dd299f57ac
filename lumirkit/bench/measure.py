"""The measurement of one work in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.bench.files import file_work
from lumirkit.bench.floor import synchronize
from lumirkit.bench.flops import ConvolutionFlop
from lumirkit.bench.kinds import IO_KINDS, SOURCE_KINDS, Kind
from lumirkit.bench.memory import MemoryMeter, SavedBytes
from lumirkit.bench.networks import TrainingStep, registration_call, training_step, triplet_call
from lumirkit.bench.reference import reference_call, reference_step
from lumirkit.bench.sources import source_call
from lumirkit.bench.work import Measurement, Spread, Work
from lumirkit.registration.kernels.dispatch import plain_torch


@dataclass
class _Found:
    """The results of a work's repeats: seconds by part, `total` among them; the rest is as in `Measurement`."""

    seconds: list[dict[str, float]]
    convolution_flop: int | None = None
    saved_gb: float | None = None
    raw_s: Spread | None = None
    mean_displacement_vox: float | None = None


def measure(work: Work) -> Measurement:
    """Do a work once to warm up and to count its operations and saved bytes, then time it `repeats` times."""
    meter = MemoryMeter(torch.device(work.device))
    with plain_torch() if work.plain_torch else nullcontext():
        if work.kind in IO_KINDS:
            found = _measure_files(work)
        elif work.kind in SOURCE_KINDS:
            found = _measure_call(source_call(work), work.repeats)
        elif work.kind is Kind.STEP:
            found = _measure_step(work)
        elif work.kind is Kind.TRIPLET:
            found = _measure_call(triplet_call(work), work.repeats)
        else:
            found = _measure_registration(work)
    spreads = {name: Spread.from_values([one[name] for one in found.seconds]) for name in found.seconds[0]}
    peak_bytes = meter.peak_bytes()
    return Measurement(
        seconds=spreads.pop("total"),
        parts=spreads,
        peak_memory_gb=peak_bytes / 1e9,
        work_memory_gb=(peak_bytes - meter.start_bytes) / 1e9,
        convolution_flop=found.convolution_flop,
        saved_gb=found.saved_gb,
        raw_s=found.raw_s,
        mean_displacement_vox=found.mean_displacement_vox,
    )


def _seconds(call: Callable[[], object]) -> dict[str, float]:
    start = time.perf_counter()
    call()
    return {"total": time.perf_counter() - start}


def _measure_call(call: Callable[[], object], repeats: int) -> _Found:
    with ConvolutionFlop() as flop:
        call()
    return _Found([_seconds(call) for _ in range(repeats)], convolution_flop=flop.total)


def _measure_registration(work: Work) -> _Found:
    call = reference_call(work) if work.reference else registration_call(work)  # both end with numbers on the CPU
    with ConvolutionFlop() as flop:
        disp_vox = call()
    moved = _mean_length(disp_vox)
    del disp_vox
    seconds = [_seconds(call) for _ in range(work.repeats)]
    return _Found(seconds, convolution_flop=flop.total, mean_displacement_vox=moved)


def _mean_length(disp_vox: Float32[ndarray, "x y z 3"]) -> float:
    return float(np.linalg.norm(disp_vox, axis=-1).mean())


def _measure_step(work: Work) -> _Found:
    step = reference_step(work) if work.reference else training_step(work)
    device = torch.device(work.device)
    saved = SavedBytes(step.parameters())
    with ConvolutionFlop() as flop:
        _step_seconds(step, device, saved)
    seconds = [_step_seconds(step, device) for _ in range(work.repeats)]
    return _Found(seconds, convolution_flop=flop.total, saved_gb=saved.bytes / 1e9)


def _step_seconds(step: TrainingStep, device: torch.device, saved: SavedBytes | None = None) -> dict[str, float]:
    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    start = now()
    step.optimizer.zero_grad(set_to_none=True)
    with saved or nullcontext():
        loss = step.forward()
    forward = now()
    loss.backward()
    backward = now()
    step.optimizer.step()
    end = now()
    return {
        "total": end - start,
        "forward": forward - start,
        "backward": backward - forward,
        "optimizer": end - backward,
    }


def _measure_files(work: Work) -> _Found:
    with tempfile.TemporaryDirectory() as folder:
        files = file_work(work, Path(folder))
        for call in (files.call, files.raw):
            call()
        seconds = [_seconds(files.call) for _ in range(work.repeats)]
        raw = [_seconds(files.raw)["total"] for _ in range(work.repeats)]
    return _Found(seconds, raw_s=Spread.from_values(raw))
