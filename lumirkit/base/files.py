"""Files that appear whole or not at all, and the check that they can be written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from math import prod
from pathlib import Path

from lumirkit.base.errors import RequestError

_PARTIAL = ".partial-"
_LONGEST_SUFFIX = 16
_LONGEST_NAME_BYTES = 200  # of a name that stands in its temporary name as it is; file systems end at 255 bytes


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place; nothing is left behind on failure.

    Raises:
        OSError: the file cannot be written, such as on a full disk; the message names it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(suffix for suffix in path.suffixes[-2:] if len(suffix) <= _LONGEST_SUFFIX)
        handle, name = tempfile.mkstemp(prefix=f"{_partial_name(path.name)}-", suffix=suffix, dir=path.parent)
    except OSError as error:
        raise _naming(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results are for all whom the umask allows
        temporary.replace(path)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _partial_name(name: str) -> str:
    """How the names of a file's temporary files begin; a long name gives way to its hash, since they are longer."""
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f"{_PARTIAL}{name}"


def _naming(path: Path, error: OSError) -> OSError:
    """The same error with the name of the file that was to be written, which a full disk does not tell."""
    if error.errno is None or error.strerror is None:
        return error
    return OSError(error.errno, error.strerror, str(path))


def remove_partial_files(folder: Path, names: Collection[str] = ()) -> None:
    """Remove what killed processes left of files in a folder; no other process may be writing there, or those files.

    Args:
        names: the only files whose leftovers are removed; every file's if there are none.
    """
    beginnings = tuple(map(_partial_name, names)) or (_PARTIAL,)
    for leftover in folder.glob(f"{_PARTIAL}*"):
        if leftover.name.startswith(beginnings):
            leftover.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old content or the new, never a part.

    It is UTF-8 whatever files it names, see `as_text`.
    """
    write_bytes_atomically(path, as_text(text).encode())


def as_text(naming_files: str) -> str:
    """What can be written and drawn whatever files it names: U+FFFD stands for what is no UTF-8 in their names."""
    return naming_files.encode(errors="surrogateescape").decode(errors="replace")


def write_json_atomically(path: Path, content: object) -> None:
    """Write what JSON can say so that readers see the old content or the new; see `write_text_atomically`."""
    write_text_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    write_atomically(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def append_text(path: Path, text: str) -> None:
    """Write text at the end of a file, which is made if it is not there.

    Raises:
        OSError: it cannot be written, such as on a full disk; the message names it.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _naming(path, error) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def require_writable(folder: Path) -> None:
    """Check that files can be written into an output folder, or that it can be made; nothing is made.

    Raises:
        RequestError: it cannot be made or is not writable.
    """
    existing = _existing(folder)
    if not existing.is_dir():
        raise RequestError(f"{folder}: cannot be created, {existing} is no folder; name a writable folder.")
    if not os.access(existing, os.W_OK):
        raise RequestError(f"{existing}: is not writable for user {os.getuid()}; expected a writable output folder.")


def require_writable_file(path: Path) -> None:
    """Check that a file can be written here, before what is to be in it is made.

    Raises:
        RequestError: it is a folder, or its folder cannot be made or is not writable.
    """
    if path.is_dir():
        raise RequestError(
            f"{path}: found a folder in the place of the output; expected a file. Name one, in it or elsewhere."
        )
    require_writable(path.parent)


def require_room(path: Path, shape: Sequence[int], numbers: int = 3) -> None:
    """Check that the disk which a float32 volume is to be written to has room for it, unpacked.

    Args:
        shape: (X, Y, Z) of the volume.
        numbers: how many there are a voxel; 3 in a field.

    Raises:
        RequestError: there is less room.
    """
    require_free(path, 4 * numbers * prod(shape), "this file")


def require_free(path: Path, needed_bytes: int, what: str) -> None:
    """Check that the disk which a file, or a folder of files, is to be written to has room.

    Args:
        what: what needs it, for the message.

    Raises:
        RequestError: there is less room.
    """
    disk = shutil.disk_usage(_existing(path.parent))
    if disk.free < needed_bytes and disk.total:  # some network drives tell nothing
        raise RequestError(
            f"{path}: found {disk.free / 1e6:.1f} MB of room on its disk; expected {needed_bytes / 1e6:.1f} MB, which "
            f"{what} may take. Make room, or name a folder on another disk."
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there.

    Raises:
        RequestError: nobody may look.
    """
    try:
        return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except PermissionError as error:
        raise RequestError(f"{folder}: {error.strerror}; name a folder you may look into.") from error
