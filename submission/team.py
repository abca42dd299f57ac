"""Several processes that register the pairs of one run: of this machine, each on a device, or of a cluster."""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TextIO

from lumirkit.base.engine import Engine, Lost
from lumirkit.base.errors import RequestError
from lumirkit.base.failure import reason_of, traceback_of
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.device import find_place
from lumirkit.registration.predictor import Method, Predictor
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.submission.account import Account, ProcessFacts
from lumirkit.submission.on_error import OnError
from lumirkit.submission.pair_maker import PairMaker, failed_pair
from lumirkit.submission.status import PairStatus

_SECONDS_FOR_A_CLAIM = 60.0
_claims: list[TextIO] = []


@dataclass(frozen=True)
class Team:
    """Where the processes are, and on which devices they register.

    `devices` are options as `find_place` takes them: one for every process of this machine, or the one that every
    process of a cluster takes where it runs.
    """

    engine: Engine
    devices: tuple[str, ...]
    convolutions: str


class TeamWork:
    """Hands out pairs to the processes of a team."""

    def __init__(
        self, team: Team, weights: Sequence[Path], on_error: OnError, refinement: Refinement | None = None
    ) -> None:
        """Load the weights here too, so that what is wrong with them is found first, and see to compiled kernels.

        Raises:
            WeightsError: the weights cannot be used.
        """
        predictor = Predictor(weights, find_place("cpu", team.convolutions), refinement)
        predictor.wait_for_kernels()
        self.method = predictor.method
        self._team, self._weights, self._on_error = team, tuple(weights), on_error

    def do(self, pairs: Sequence[PairFiles], account: Account) -> None:
        """Account for each pair as soon as one of the processes has made it."""
        with tempfile.TemporaryDirectory() as claims, Progress(len(pairs), "pairs") as bar:
            order = Order(
                self._weights,
                self.method,
                self._team.devices,
                Path(claims),
                self._team.convolutions,
                self._on_error,
            )
            # Where a worker dies after its pair, another one makes the pair again, which alone can tell of its making.
            tasks = [(pair, pair.field.exists()) for pair in pairs]
            with closing(self._team.engine.outcomes(partial(_make_pair, order), tasks)) as outcomes:
                for position, outcome in outcomes:
                    if isinstance(outcome, Lost):
                        lost = failed_pair(pairs[position], outcome.reason, self._on_error)
                        outcome = lost, ProcessFacts.here()
                    pair, process = outcome
                    account.add(position, pair, process)
                    bar.advance(pair.case_name)
                    if pair.has_failed and self._on_error is OnError.STOP:
                        break


@dataclass(frozen=True)
class Order:
    """What a process has to know once, for all its pairs."""

    weights: tuple[Path, ...]
    method: Method
    devices: tuple[str, ...]
    claims: Path
    """A folder of files that are locked, one for each device that a process has taken."""
    convolutions: str
    on_error: OnError


def _make_pair(order: Order, task: tuple[PairFiles, bool]) -> tuple[PairStatus, ProcessFacts]:
    """Make one pair in this process, unless its field was there when the run began and can be kept."""
    files, may_keep = task
    try:
        pair = _maker_of(order).make(files, may_keep)
    except Exception as error:
        pair = failed_pair(files, reason_of(error, files.images), order.on_error, traceback_of(error))
    return pair, ProcessFacts.here()


@lru_cache(maxsize=1)
def _maker_of(order: Order) -> PairMaker:
    """Load the weights, once in this process."""
    device = order.devices[0] if len(order.devices) == 1 else claim_device(order.devices, order.claims)
    predictor = Predictor(order.weights, find_place(device, order.convolutions), order.method.refinement)
    if predictor.method != order.method:
        raise RequestError(
            f"{order.weights[0]}: found other weights than where the run was started; expected the same in every "
            "process. Use a folder that all machines share, and leave weights alone while a run lasts."
        )
    return PairMaker(predictor, order.on_error)


def claim_device(devices: Sequence[str], claims: Path) -> str:
    """Take the first device that no other process has; it is free again when this process ends, however it ends.

    Raises:
        RequestError: none becomes free within a minute.
    """
    deadline = time.monotonic() + _SECONDS_FOR_A_CLAIM
    while time.monotonic() < deadline:
        for number, device in enumerate(devices):
            claim = (claims / str(number)).open("w")
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                claim.close()
                continue
            _claims.append(claim)
            return device
        time.sleep(0.05)  # a process that was replaced may still be ending
    raise RequestError(f"found none of {', '.join(devices)} free; expected one for every process.")
