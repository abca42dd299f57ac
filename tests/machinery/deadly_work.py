"""Work for processes that tests start, which import it by this name."""

import os
import signal
from pathlib import Path

from distributed import WorkerPlugin

from lumirkit.submission.team import claim_device


def square_unless(deadly, number):
    """The square; the process that is given the deadly number is killed, as one that has taken all memory."""
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def refuse(number):
    raise ModuleNotFoundError(f"no module for {number}")


def claimed(claims, devices, number):
    """The device that this process has, and the process; a second claim of one process would find the next device."""
    if not hasattr(claimed, "device"):
        claimed.device = claim_device(devices, Path(claims))
    return claimed.device, os.getpid()


class DeadlyImage(WorkerPlugin):
    """Kills a worker that is about to read a certain fixed image; `times` files in a folder say how often."""

    def __init__(self, name, folder, times):
        self.name, self.folder, self.times = name, folder, times

    def setup(self, worker):
        from lumirkit.submission import loading

        real = loading.read_pair

        def read_pair(fixed, *more):
            deaths = len(list(Path(self.folder).iterdir()))
            if fixed.name == self.name and deaths < self.times:
                (Path(self.folder) / str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(fixed, *more)

        loading.read_pair = read_pair
