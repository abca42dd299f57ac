"""Workers that share the jobs of an ablation: each takes what is ready and nobody else has claimed.

A claim is a lock on a file, which the system releases when its process ends, however it ends. So several commands, on
one machine or on several that share a file system, can work on one ablation, and none needs to know of the others.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from torch.multiprocessing.spawn import spawn

from lumirkit.ablation.jobs import Job, Workplace
from lumirkit.base.errors import KitError
from lumirkit.base.files import write_text_atomically
from lumirkit.registration.device import Place
from lumirkit.train.deadline import Deadline

_CLAIMS, _FAILURES = ".claims", "failures"
_SECONDS_BETWEEN_LOOKS = 1.0


def work_side_by_side(
    jobs: Sequence[Job], data: Path, out: Path, places: Sequence[Place], minutes: float | None, cache: Path | None
) -> dict[str, str]:
    """Do all jobs, one worker a place; returns why jobs failed, by name."""
    shutil.rmtree(out / _FAILURES, ignore_errors=True)  # what failed in an earlier call is tried again
    arguments = (jobs, data, out, places, minutes, cache)
    if len(places) == 1:
        _work(0, *arguments)
    else:
        spawn(_work, arguments, nprocs=len(places))
    return read_failures(out)


def read_failures(out: Path) -> dict[str, str]:
    """Why jobs failed, by name."""
    files = sorted((out / _FAILURES).rglob("*.txt"))
    return {str(file.relative_to(out / _FAILURES).with_suffix("")): file.read_text(encoding="utf-8") for file in files}


def _work(
    number: int,
    jobs: Sequence[Job],
    data: Path,
    out: Path,
    places: Sequence[Place],
    minutes: float | None,
    cache: Path | None,
) -> None:
    """Do what is ready until nothing is left, or time is up."""
    deadline = Deadline(minutes)
    deadline.on_termination()
    at = Workplace(data, out, places[number], deadline, cache)
    left = {job.name: job for job in jobs}
    while left and not deadline.passed:
        if not any(_take(job, left, at) for job in list(left.values())) and left:
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _take(job: Job, left: dict[str, Job], at: Workplace) -> bool:
    """Do a job if it is ready and unclaimed; `left` loses those that are done or failed. True if there was work.

    Whatever goes wrong now costs this job and those that need it, and the others go on: what is wrong with the request
    as a whole was found before the first job began.
    """
    failures = read_failures(at.out)
    if lost := next((need for need in (job.name, *job.needs) if need in failures), None):
        if lost != job.name:
            _note_failure(job, f"needs {lost}, which failed", at.out)
        del left[job.name]
        return True
    if any(need in left and not left[need].is_done(at.out) for need in job.needs):
        return False
    claim = at.out / _CLAIMS / f"{job.name}.lock"
    claim.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(claim, blocking=False):
            if not job.is_done(at.out):
                _say(job.name)
                job.do(at)
            if not at.deadline.passed:
                del left[job.name]
            return True
    except Timeout:
        return False
    except (KitError, OSError) as error:
        _note_failure(job, str(error), at.out)
        return True


def _note_failure(job: Job, reason: str, out: Path) -> None:
    _say(f"{job.name} failed: {reason}")
    write_text_atomically(out / _FAILURES / f"{job.name}.txt", reason)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # in one piece, whoever else writes
    sys.stderr.flush()
