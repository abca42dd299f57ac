"""Threads that keep to the cores this process may use, and that give way to other processes."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_LOAD = Path("/proc/loadavg")
_COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
_SHORT_SPIN = "10000"  # rounds, a fraction of a millisecond; alone on a machine it is 300,000


def keep_to_cpu_limit(cgroup: Path = _CGROUP) -> None:
    """Let torch and Numba start no more threads than the CPU limit of the process allows; called before their import.

    `docker run --cpus 4` on 64 cores lets 64 threads run and stops them all for most of the time. Numbers of threads
    that the user has set stay; one for OpenMP alone holds for Numba too. After the import nothing is done: once its
    threads run, Numba compiles nothing more where the variable says another number.
    """
    if "numba" in sys.modules:
        return
    limit = _cpu_limit(cgroup)
    if limit is not None and limit < len(os.sched_getaffinity(0)):
        for name in _COUNTS:
            os.environ.setdefault(name, str(limit))
    said = _said_to_openmp()
    if said is not None:
        # Numba starts its threads with its own number, which torch then takes in the thread that called Numba first.
        os.environ.setdefault("NUMBA_NUM_THREADS", str(said))


def give_way_to_others(load: Path = _LOAD) -> None:
    """Let threads that wait leave their core soon if other processes compute on this machine now.

    The threads of a loop wait for the last one, and where it shares its core with another process, those that wait
    should leave theirs to it. On a machine of its own a process is faster if its threads keep their cores. What the
    user has set stays. Called before the import of torch, whose threads look at the variable once.
    """
    try:
        running = int(load.read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):  # no such account here
        return
    if running > 1 and "OMP_WAIT_POLICY" not in os.environ:  # this process is one of them
        os.environ.setdefault("GOMP_SPINCOUNT", _SHORT_SPIN)


def share_of_threads(processes: int) -> int:
    """How many threads each of so many processes may use: what the user or the CPU limit says, shared, at least one."""
    from joblib import cpu_count  # here and below: what the rest of the ground floor does without

    return max(1, (_said_to_openmp() or cpu_count()) // processes)


def use_threads(count: int) -> None:
    """Let torch and Numba use so many threads for what the calling thread does from now on."""
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _said_to_openmp() -> int | None:
    """The one number of threads that the environment gives OpenMP, if it gives one."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) > 0 else None


def _cpu_limit(cgroup: Path) -> int | None:
    """The cores that the control group of this process may use at once, at least one; None without a limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:  # the first version of control groups
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((cgroup / "cpu" / name).read_text(encoding="ascii").strip() for name in names)
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError):  # no control groups, or no limit: "max"
        return None
