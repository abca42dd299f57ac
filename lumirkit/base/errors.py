"""What every error of the kit is, how it ends a program, and the errors that several rooms raise.

Each room keeps the errors that only it can raise beside the code that raises them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from lumirkit.base.screen import say_to_stderr


class KitError(Exception):
    """Something that a user can mend; the message says file, found, expected and what to do.

    A command that ends with it prints the message without a traceback. `exit_status` is 2 where nothing was started,
    and 1 where work that was begun could not be finished.
    """

    exit_status: ClassVar[int] = 2


class RequestError(KitError):
    """The request itself is wrong; nothing was started."""


class VolumeError(KitError):
    """A volume file cannot be used as it is; the message says file, found, expected and what to do."""


@contextmanager
def ending_with_status() -> Iterator[None]:
    """Let an error of the kit, or of the system, end the program with one message and the exit status that it has."""
    try:
        yield
    except KitError as error:
        say_to_stderr(f"error: {error}")
        sys.exit(error.exit_status)
    except OSError as error:
        say_to_stderr(f"error: {error}")
        sys.exit(1)
