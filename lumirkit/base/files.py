"""Files that appear whole or not at all, and the check that they can be written."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lumirkit.base.errors import RequestError

_PARTIAL = ".partial-"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place; nothing is left behind on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{_PARTIAL}{path.name}-", suffix="".join(path.suffixes), dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results are for all whom the umask allows
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(folder: Path, name: str = "") -> None:
    """Remove what killed processes left of files in a folder; no other process may be writing there, or that file.

    Args:
        name: the only file whose leftovers are removed; every file's if empty.
    """
    for leftover in folder.glob(f"{_PARTIAL}{glob.escape(name)}*"):
        leftover.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old content or the new, never a part."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    write_atomically(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def require_writable(folder: Path) -> None:
    """Check that files can be written into an output folder, or that it can be made; nothing is made.

    Raises:
        RequestError: it cannot be made or is not writable.
    """
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except PermissionError as error:
        raise RequestError(f"{folder}: {error.strerror}; name a folder you may look into.") from error
    if not existing.is_dir():
        raise RequestError(f"{folder}: cannot be created, {existing} is no folder; name a writable folder.")
    if not os.access(existing, os.W_OK):
        raise RequestError(f"{existing}: is not writable for user {os.getuid()}; expected a writable output folder.")
