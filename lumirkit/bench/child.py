"""A process of its own for one measurement: `python -m lumirkit.bench.child TASK ARGUMENT` prints one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from lumirkit.base.errors import RequestError
from lumirkit.base.memory import use_huge_pages
from lumirkit.bench.floor import Floor, measure_floor
from lumirkit.bench.measure import measure
from lumirkit.bench.reference import require_reference
from lumirkit.bench.work import BenchError, Measurement, Work

_WRONG_REQUEST = 2
_STDERR_LINES = 8


def measure_in_child(work: Work, threads: int) -> Measurement:
    """Measure a work in a new process with so many threads.

    Raises:
        BenchError: the process ended without a result; the message says how.
    """
    return Measurement.model_validate_json(_run("work", work.model_dump_json(), threads))


def floor_in_child(device: str, threads: int) -> Floor:
    """Measure the machine in a new process with so many threads.

    Raises:
        BenchError: the process ended without a result; the message says how.
    """
    return Floor.model_validate_json(_run("floor", device, threads))


def check_reference_in_child(checkout: Path) -> None:
    """Check a checkout of the public code in a new process: its modules have names that this one needs, too.

    Raises:
        RequestError: something is missing; the message names it.
    """
    _run("reference", str(checkout), threads=1)


def _run(task: str, argument: str, threads: int) -> str:
    """Run a task in a new process; returns the last line that it prints."""
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    # -P: `lumirkit` itself imports nothing from the folder it is called in, whatever that holds, say a random.py.
    command = [sys.executable, "-P", "-m", "lumirkit.bench.child", task, argument]
    ended = subprocess.run(command, env=os.environ | count, capture_output=True, text=True, check=False)
    lines = ended.stderr.strip().splitlines()
    if ended.returncode == _WRONG_REQUEST:
        raise RequestError(lines[-1])
    if ended.returncode < 0:
        raise BenchError(f"killed by signal {-ended.returncode}; with signal 9 the memory did not suffice")
    if ended.returncode or not ended.stdout.strip():
        raise BenchError("\n".join(lines[-_STDERR_LINES:]))
    return ended.stdout.strip().splitlines()[-1]


def _answer(task: str, argument: str) -> str:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if task == "work":
        return measure(Work.model_validate_json(argument)).model_dump_json()
    if task == "floor":
        return measure_floor(torch.device(argument)).model_dump_json()
    require_reference(Path(argument))
    return json.dumps("found")


if __name__ == "__main__":
    use_huge_pages()
    try:
        print(_answer(*sys.argv[1:]))
    except RequestError as error:
        print(error, file=sys.stderr)
        sys.exit(_WRONG_REQUEST)
