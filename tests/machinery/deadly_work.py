"""Work for processes that tests start, which import it by this name."""

import os
import signal


def square(number):
    return number**2


def square_unless(deadly, number):
    """The square; the process that is given the deadly number is killed, as one that has taken all memory."""
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2
