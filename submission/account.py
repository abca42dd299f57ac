"""The account of a run: what became of every pair, in the order of the list, as the status file tells it."""

from __future__ import annotations

import time
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import get_num_threads

from lumirkit.base.memory import peak_memory_bytes
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.predictor import Method
from lumirkit.submission.status import PairState, PairStatus, RunState, RunStatus

_SHARE_OF_TIME = 0.05


@dataclass(frozen=True)
class ProcessFacts:
    """What the process that registered a pair tells of itself."""

    threads: int
    peak_memory_gb: float
    """The most that it has held, in 1e9 bytes."""

    @classmethod
    def here(cls) -> Self:
        """The facts of this process."""
        return cls(get_num_threads(), round(peak_memory_bytes() / 1e9, 3))


class Account:
    """Keeps the status of a run, and its file, which is rewritten whole as pairs are done.

    That is after every pair, unless writing would then take more than a twentieth of the time, as it does with
    thousands of pairs on many workers: so its cost grows with the time of the run, not with the square of its pairs.
    """

    def __init__(self, status_file: Path, method: Method, pairs: Sequence[PairFiles]) -> None:
        told = RunStatus.made_before(status_file, method)
        timed = {field: pair for field, pair in told.items() if pair.seconds}
        self._file = status_file
        self._made_before = RunStatus.made_beside(status_file, method) | timed
        self._earlier = {field: pair for field, pair in told.items() if (status_file.parent / field).is_file()}
        self._positions: list[int] = []
        self._next_write = 0.0
        self.status = RunStatus(**vars(method), pairs_asked_for=len(pairs))

    def add(self, position: int, pair: PairStatus, process: ProcessFacts) -> None:
        """Account for one more pair, and rewrite the file if it is time.

        A pair that was kept is told as the run that made it told it; what was told of any pair earlier gives way.

        Args:
            position: that of the pair in the list; the pairs stand in the account in this order.

        Raises:
            OSError: the file cannot be written.
        """
        if pair.state is PairState.KEPT:
            made = self._made_before.get(pair.field, pair)
            pair = made.model_copy(update={"state": PairState.KEPT})
        place = bisect(self._positions, position)
        self._positions.insert(place, position)
        self.status.pairs.insert(place, pair)
        self._earlier.pop(pair.field, None)
        self.status.threads = process.threads
        self.status.peak_process_memory_gb = max(self.status.peak_process_memory_gb, process.peak_memory_gb)
        if time.monotonic() >= self._next_write:
            self._write()

    def end(self) -> None:
        """Say how far the run has come; it does no more.

        Raises:
            OSError: the file cannot be written.
        """
        if len(self.status.pairs) < self.status.pairs_asked_for:
            self.status.state = RunState.STOPPED
        else:
            self.status.state = RunState.DONE_BUT_FAILURES if self.status.failures else RunState.DONE
        self._write()

    def _write(self) -> None:
        start = time.monotonic()
        self.status.earlier = list(self._earlier.values())
        self.status.write(self._file)
        self._next_write = time.monotonic() + (time.monotonic() - start) / _SHARE_OF_TIME
