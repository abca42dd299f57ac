"""Processes for tests that kill them, or let them talk to each other, without the seconds that each would import for.

A server, one for all tests of this process, imports the package once and starts each of them as a fork of itself. They
are processes of the system like any other, but for their imports, and die as such.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from numba.np.ufunc.parallel import _launch_threads
from torch.distributed.elastic.utils.distributed import get_free_port

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(  # only what can be imported wherever the server is started
    ["lumirkit.commands.main", "lumirkit.ablation.run", "lumirkit.submission.entrypoint", "lumirkit.train.launch"]
)
_SECONDS = 300


class Forked:
    """One process that runs a function on as many threads as the tests have; what it prints goes into a file."""

    def __init__(self, said: Path, function: Callable[..., None], *arguments: Any, **environment: str) -> None:
        self._said = said
        said.write_text("")
        self._process = _CONTEXT.Process(
            target=_run, args=(said, torch.get_num_threads(), environment, function, arguments)
        )
        self._process.start()

    @property
    def said(self) -> str:
        """What it has printed until now."""
        return self._said.read_text(encoding="utf-8")

    def wait(self) -> int:
        """Wait for its end; returns its exit status, or the negative number of the signal that ended it."""
        self._process.join(_SECONDS)
        assert self._process.exitcode is not None, f"it has not ended within {_SECONDS} s\n{self.said}"
        return self._process.exitcode

    def wait_until(self, seen: Callable[[], Any]) -> None:
        """Wait until something has come to be, which must be before the process ends."""
        deadline = time.monotonic() + _SECONDS
        while not seen():
            assert self._process.is_alive() or seen(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._process.pid, number)

    def kill(self) -> int:
        """End it as `kill -9` does, and wait for that."""
        with suppress(ProcessLookupError):  # it has ended
            self.send(signal.SIGKILL)
        return self.wait()


def lumirkit(said: Path, *arguments: Any, **environment: str) -> Forked:
    """Start a command."""
    return Forked(said, command, *map(str, arguments), **environment)


def container(said: Path, *arguments: Any, **environment: str) -> Forked:
    """Start what the container runs."""
    return Forked(said, _container, *map(str, arguments), **environment)


def team(folder: Path, count: int, function: Callable[..., None], *arguments: Any) -> list[Forked]:
    """Start a function in several processes that find each other as those do which torchrun starts."""
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(get_free_port())}
    return [
        Forked(folder / f"said{rank}", function, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **meeting)
        for rank in range(count)
    ]


def _run(
    said: Path, threads: int, environment: dict[str, str], function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    _launch_threads()  # Numba's first loop would give torch its own number of threads, which decides how it rounds
    torch.set_num_threads(threads)
    with said.open("w", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        try:
            function(*arguments)
        finally:
            atexit._run_exitfuncs()  # as at the end of any other process: workers that it started end with it


def command(*arguments: str) -> None:
    """Run a command, in the process that has been started."""
    from lumirkit.commands.main import main

    sys.argv = ["lumirkit", *arguments]
    main()


def _container(*arguments: str) -> None:
    from lumirkit.submission.entrypoint import main

    sys.argv = ["lumirkit", *arguments]
    main()
