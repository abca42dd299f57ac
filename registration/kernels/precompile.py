"""Compiling all kernels of a task at once, on every core, in processes beside the one that will call them.

Numba compiles a kernel at its first call, one after the other on one core. A command that knows what it will call
starts this first, and meanwhile imports torch, reads images and loads weights. All of it happens once on a machine, as
the code is kept (`base/compiled.py`); and because it comes from these processes, the first run computes with the same
code as every later one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numba
from numba import types

import lumirkit
from lumirkit.base.compiled import is_kept
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.kernels import features, group_norm, inverse, sampling, taps

Signature = tuple[types.Type, ...]

_FLAG, _COUNT, _REAL = types.boolean, types.int64, types.float32


class Task(StrEnum):
    """What a process is about to do, which decides what is compiled."""

    REGISTER = "register"
    REGISTER_IN_BFLOAT16 = "register-in-bfloat16"
    MIND = "mind"
    REFINE = "refine"
    TRAIN = "train"


def _array(axes: int, numbers: types.Number = types.float32) -> types.Array:
    return types.Array(numbers, axes, "C")


_VECTOR, _MATRIX, _ROWS, _CHANNELS_LAST = _array(1), _array(2), _array(4), _array(5)
_FIELD = _array(5)
_SUMS = _array(4, types.float64)
_TAPS = _array(2, types.uint32)
_REACHED = _array(3, types.int32)


def _forward(numbers: types.Number) -> list[tuple[Any, Signature]]:
    """What a network calls without gradients, its features being float32 or the bits of bfloat16; slow ones first."""
    stored, rows = _array(5, numbers), _array(4, numbers)
    return [
        *_geometry_forward(),
        (features.sample, (stored, _FIELD, _VECTOR, stored)),
        (group_norm.channel_sums, (rows, _VECTOR, _SUMS)),
        (group_norm.scaled_relu, (rows, _MATRIX, _MATRIX, rows)),
    ]


def _of_mind() -> list[tuple[Any, Signature]]:
    from lumirkit.registration.kernels import mind  # here and below: what imports torch, which takes seconds

    return [
        (mind._exponents, (_ROWS, _REAL, _REAL, _VECTOR, _array(5))),
        (mind._sum_squares, (_ROWS, _array(3, types.float64))),
    ]


def _geometry_forward() -> list[tuple[Any, Signature]]:
    """What composes, inverts and evaluates fields; slow ones first."""
    return [
        (inverse.invert, (_FIELD, _VECTOR, _REAL, _COUNT, _REAL, _FIELD)),
        (sampling.sample, (_FIELD, _FIELD, _VECTOR, _FLAG, _FLAG, _FIELD)),
        (taps.apply_to_rows, (_array(3), _TAPS, _MATRIX, _array(3))),
        (taps.apply_within_rows, (_MATRIX, _TAPS, _MATRIX, _MATRIX)),
    ]


def _losses_and_geometry_backward() -> list[tuple[Any, Signature]]:
    from lumirkit.registration.kernels import diffusion, jacobian, ncc

    return [
        (sampling.grad_volume, (_FIELD, _FIELD, _VECTOR, _FLAG, _REACHED, _COUNT, _FIELD)),
        (sampling.grad_disp, (_FIELD, _FIELD, _FIELD, _VECTOR, _FLAG, _FLAG, _FIELD)),
        (inverse.transposed_solve, (_FIELD, _FIELD, _FIELD, _VECTOR, _FIELD)),
        (ncc._correlate, (_array(3), _array(3), _COUNT, types.float64, _array(3, types.float64), _ROWS)),
        (ncc._combine, (_array(3), _array(3), _COUNT, _COUNT, _ROWS, types.float64, _array(3))),
        (jacobian._add_up, (_FIELD, _COUNT, _ROWS)),
        (jacobian._differentiate, (_FIELD, _array(3, types.int64), _COUNT, _COUNT, _ROWS, _FIELD)),
        (sampling.planes_reached, (_FIELD, _VECTOR)),
        (diffusion._sum_squares, (_ROWS, _array(3, types.float64))),
        (diffusion._differentiate, (_ROWS, _VECTOR, _ROWS)),
    ]


def _features_backward() -> list[tuple[Any, Signature]]:
    return [
        (features.grad_volume, (_CHANNELS_LAST, _FIELD, _VECTOR, _REACHED, _COUNT, _CHANNELS_LAST)),
        (features.grad_disp, (_CHANNELS_LAST, _CHANNELS_LAST, _FIELD, _VECTOR, _FIELD)),
        (group_norm.gradient_sums, (_ROWS, _ROWS, _MATRIX, _MATRIX, _SUMS)),
        (group_norm.grad_volume, (_ROWS, _ROWS, _MATRIX, _MATRIX, _MATRIX, _MATRIX, _ROWS)),
    ]


def kernels_of(task: Task) -> list[tuple[Any, Signature]]:
    """The kernels that a task calls, each with the types that it calls it with, those that compile slowly first."""
    match task:
        case Task.REGISTER:
            return _forward(types.float32)
        case Task.REGISTER_IN_BFLOAT16:
            return _forward(types.uint16)
        case Task.MIND:
            return _of_mind()
        case Task.REFINE:
            return _losses_and_geometry_backward() + _geometry_forward()
        case Task.TRAIN:
            backward = _losses_and_geometry_backward() + _features_backward()
            return _forward(types.float32) + backward + _of_mind()


class Precompilation:
    """The processes that compile the kernels of some tasks; nothing where all is kept, or where it cannot be kept."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Start them."""
        tasks = list(tasks)
        missing = [index for index, kernel in enumerate(_kernels_of_all(tasks)) if not is_kept(*kernel)]
        self._processes = _started(tasks, missing) if missing else []
        if missing:
            say_to_stderr("compiling for this processor, once; this takes some seconds")

    def wait(self) -> None:
        """Wait until all is compiled; what is not, for whatever reason, is compiled when it is called."""
        for process in self._processes:
            process.wait()
        self._processes = []


def compile_share(tasks: Iterable[Task]) -> None:
    """Compile kernels of some tasks, and keep the code, as long as standard input has bytes, each the index of one.

    All processes read the same pipe, so that each takes the next kernel when it is done with one.
    """
    kernels = _kernels_of_all(tasks)
    while index := os.read(sys.stdin.fileno(), 1):
        kernel, signature = kernels[index[0]]
        kernel.compile(signature)


def _kernels_of_all(tasks: Iterable[Task]) -> list[tuple[Any, Signature]]:
    """The kernels of several tasks, those that they share once."""
    return list(dict.fromkeys(kernel for task in tasks for kernel in kernels_of(task)))


def _started(tasks: Sequence[Task], indices: Sequence[int]) -> list[subprocess.Popen]:
    reading, writing = os.pipe()
    os.write(writing, bytes(indices))
    os.close(writing)
    count = min(numba.config.NUMBA_NUM_THREADS, len(indices))  # type: ignore[attr-defined]
    processes = [_process([task.value for task in tasks], reading) for _ in range(count)]
    os.close(reading)
    return processes


def _process(arguments: Sequence[str], indices: int) -> subprocess.Popen:
    root = str(Path(lumirkit.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-P", "-m", "lumirkit.registration.kernels.precompile", *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=indices, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    compile_share(Task(name) for name in sys.argv[1:])
