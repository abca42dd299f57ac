"""Many pieces of work side by side: in processes of this machine, through joblib, or on a cluster that Dask runs."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from lumirkit.base.errors import KitError, RequestError
from lumirkit.base.extras import require_extra
from lumirkit.base.memory import use_huge_pages
from lumirkit.base.screen import say_to_stderr
from lumirkit.base.threads import share_of_threads, use_threads

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_SECONDS_TO_ANSWER = 5
_turn = threading.Lock()


class WorkersLostError(KitError):
    """The processes that did the work are gone; what was done before is kept, and the same command goes on."""

    exit_status: ClassVar[int] = 1


@dataclass(frozen=True)
class Lost:
    """What stands for the outcome of a piece of work that a cluster could not do."""

    reason: str


class Engine(Protocol):
    """Where the work is done."""

    def outcomes(self, do: Callable[[Item], Outcome], items: Sequence[Item]) -> Generator[tuple[int, Outcome | Lost]]:
        """Do the work on every item; close the generator to end early.

        Args:
            do: what is to be done; it can be pickled, and it lets no error out that stands for one item only.

        Yields:
            Each outcome as soon as it is there, with the position of its item.

        Raises:
            WorkersLostError: the processes are gone.
        """


@dataclass(frozen=True)
class Processes:
    """Processes of this machine that share its threads; one of them is this process itself."""

    count: int = 1

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            RequestError: it is below 1.
        """
        if self.count < 1:
            raise RequestError(f"found {self.count} workers; expected at least 1.")

    def outcomes(self, do: Callable[[Item], Outcome], items: Sequence[Item]) -> Generator[tuple[int, Outcome | Lost]]:
        """See `Engine.outcomes`."""
        if self.count == 1:
            yield from ((position, do(item)) for position, item in enumerate(items))
            return
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        with parallel_config("loky", inner_max_num_threads=share_of_threads(self.count)):
            run = Parallel(n_jobs=self.count, return_as="generator_unordered", batch_size=1)
        try:
            numbered = map(delayed(partial(_numbered, do)), range(len(items)), items)
            with warnings.catch_warnings(), closing(run(numbered)) as done:
                warnings.simplefilter("ignore", UserWarning)  # of joblib, where the work ends early
                yield from done
        except TerminatedWorkerError as error:
            raise WorkersLostError(
                "a worker process was killed, perhaps because memory ran out; what was done before is kept. Use fewer "
                "--workers; the same command goes on."
            ) from error


@dataclass(frozen=True)
class Cluster:
    """Workers of a Dask scheduler, wherever they run; each process does one piece of work at a time.

    A piece of work whose worker dies is given to another one. Dask gives up on what was on a worker when it died, four
    times unless the scheduler says otherwise; such pieces are done once more, one by one, so that none is lost for
    what another one did.
    """

    address: str
    client: Client

    def outcomes(self, do: Callable[[Item], Outcome], items: Sequence[Item]) -> Generator[tuple[int, Outcome | Lost]]:
        """See `Engine.outcomes`."""
        from distributed import KilledWorker, as_completed

        completed = partial(as_completed, loop=self.client.loop, with_results=True, raise_errors=False)
        work = partial(_in_turn, do)
        futures = self.client.map(work, items, pure=False)
        positions = {future.key: position for position, future in enumerate(futures)}
        done = completed(futures)
        del futures  # a result that is held here would be made again if its worker dies
        suspects = []
        for future, result in done:
            position = positions[future.key]
            if future.status == "error" and isinstance(result[1], KilledWorker):
                suspects.append(position)
            else:
                yield position, self._outcome(future.status, result)
            future.release()
        for position in suspects:
            for future, result in completed([self.client.submit(work, items[position], pure=False)]):
                yield position, self._outcome(future.status, result)

    def _outcome(self, status: str, result: Any) -> Any:
        """The outcome of a piece of work, which Dask gives as it is, or as an error with its type and traceback."""
        from distributed import KilledWorker

        if status == "finished":
            return result
        if status != "error":
            raise WorkersLostError(
                f"--cluster {self.address}: the Dask scheduler is gone; what was done before is kept. Start a cluster; "
                "the same command goes on."
            )
        error = result[1]
        if isinstance(error, KilledWorker):
            return Lost(
                f"the worker died each time this was done, at last {error.last_worker.address}; perhaps its memory ran "
                "out. Look at that worker's log, and give workers more memory."
            )
        return Lost(f"a worker of the cluster could not do this ({type(error).__name__}: {error}). Look at its log.")


@contextmanager
def engine_for(workers: int, cluster: str | None) -> Iterator[Engine]:
    """What two options ask for: processes of this machine, or the workers of a running Dask scheduler.

    Args:
        workers: number of processes.
        cluster: address of the scheduler; None for processes of this machine.

    Raises:
        RequestError: fewer than one process; both are asked for; Dask is not installed; nobody answers there, or
            workers there have another version of this kit.
    """
    if cluster is None:
        yield Processes(workers)
        return
    if workers != 1:
        raise RequestError(f"found --workers {workers} beside --cluster, whose workers run already; leave out one.")
    require_extra("--cluster", "cluster", "dask", "distributed")
    from distributed import Client

    try:
        asyncio.run(_greet(cluster))  # a client that is made in vain writes a traceback when it is thrown away
        client = Client(cluster, timeout=_SECONDS_TO_ANSWER, set_as_default=False)
    except Exception as error:  # another server at this address may answer anything
        raise RequestError(
            f"--cluster {cluster}: found no Dask scheduler that answers within {_SECONDS_TO_ANSWER} s; expected the "
            "address that `dask scheduler` prints, such as tcp://node1:8786. Start one, or correct the address."
        ) from error
    with client:
        _require_same_version(client, cluster)
        yield Cluster(cluster, client)


async def _greet(address: str) -> None:
    from distributed.comm.core import connect

    await (await connect(address, timeout=_SECONDS_TO_ANSWER)).close()


def _require_same_version(client: Client, cluster: str) -> None:
    found = client.run(version, "lumirkit", on_error="return")
    if not found:
        say_to_stderr(f"warning: --cluster {cluster}: found no worker yet; the work begins when one is there.")
    for worker, its in found.items():
        if its != version("lumirkit"):
            raise RequestError(
                f"--cluster {cluster}: found {f'lumirkit {its}' if isinstance(its, str) else 'no lumirkit'} on the "
                f"worker {worker}; expected lumirkit {version('lumirkit')}, as here. Install it there."
            )


def _numbered(do: Callable[[Item], Outcome], position: int, item: Item) -> tuple[int, Outcome]:
    return position, do(item)


def _in_turn(do: Callable[[Item], Outcome], item: Item) -> Outcome:
    """Do a piece of work with all threads of a Dask worker; its process does one at a time."""
    from distributed import get_worker

    threads = get_worker().state.nthreads
    with _turn:
        use_huge_pages()
        use_threads(threads)
        return do(item)
