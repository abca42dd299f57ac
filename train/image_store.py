"""Decoded images of equal size in one file that all processes of a node map: in memory where they fit, else on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lumirkit.base.errors import KitError
from lumirkit.train.processes import Processes

_IN_MEMORY = Path("/dev/shm")  # files there are memory; where there is no such folder, the disk serves
_SHARE_OF_MEMORY = 0.5  # of what is free there, the images may take so much


class StoreError(KitError, OSError):
    """There is no room for the decoded images; the message says how much is needed and where it was looked for."""


def open_store(
    count: int, shape: tuple[int, ...], dtype: DTypeLike, processes: Processes, folder: Path | None = None
) -> NDArray[np.generic]:
    """Open an array (count, *shape) that the processes of a node share; its content is theirs to fill.

    The file has no name any more when this returns: its room is free again when the last process ends, however it ends.

    Args:
        folder: where to make the file; None for memory, or the folder of temporary files where memory is short.

    Raises:
        StoreError: there is no room.
    """
    size = count * prod(shape) * np.dtype(dtype).itemsize
    own = str(_reserve(size, folder)) if processes.local_rank == 0 else ""
    path = Path(next(name for name in processes.gather_on_node(own) if name))
    store = np.memmap(path, dtype=dtype, mode="r+", shape=(count, *shape))
    processes.wait()
    if processes.local_rank == 0:
        path.unlink()
    return store


def _reserve(size: int, folder: Path | None) -> Path:
    """Make a file of `size` bytes whose room is certain."""
    place = folder if folder is not None else _where_it_fits(size)
    place.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="lumirkit-images-", dir=place)
    try:
        if hasattr(os, "posix_fallocate"):  # a sparse file would end the process where the disk gets full
            os.posix_fallocate(handle, 0, size)
        else:
            os.truncate(handle, size)
    except OSError as error:
        Path(name).unlink()
        raise StoreError(
            f"{place}: no room for the decoded training images, which need {size / 1e9:.1f} GB ({error.strerror}). "
            "Name a folder on a larger disk with --cache."
        ) from error
    finally:
        os.close(handle)
    return Path(name)


def _where_it_fits(size: int) -> Path:
    in_memory = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK)
    if in_memory and size <= _SHARE_OF_MEMORY * shutil.disk_usage(_IN_MEMORY).free:
        return _IN_MEMORY
    return Path(tempfile.gettempdir())
