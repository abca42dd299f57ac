"""What every error of the kit is, and the errors that several rooms raise.

Each room keeps the errors that only it can raise beside the code that raises them.
"""

from __future__ import annotations

from typing import ClassVar


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
