"""The checks that no output of a command takes the place of one of its inputs, or of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lumirkit.base.errors import RequestError

_LONGEST_NAME_BYTES = 255


def require_apart(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Check, before anything is done, that the outputs are other files than the inputs and than each other.

    A file is the same under another name too, through links. None stands for a file that nobody asked for.

    Raises:
        RequestError: one would be overwritten, or has a name that is too long for a file.
    """
    given = {_identity(path): path for path in inputs if path is not None}
    planned: dict[object, Path] = {}
    for output in outputs:
        if output is None:
            continue
        if len(os.fsencode(output.name)) > _LONGEST_NAME_BYTES:
            raise RequestError(
                f"{output}: found a name of {len(os.fsencode(output.name))} bytes; expected at most "
                f"{_LONGEST_NAME_BYTES}. Give the output a shorter name."
            )
        identity = _identity(output)
        if identity in given:
            raise RequestError(
                f"{output}: found the input {given[identity]} in the place of the output, which would overwrite it; "
                "expected another file. Give the output another name."
            )
        if identity in planned:
            raise RequestError(
                f"{output}: found two outputs of this name, of which one would overwrite the other; expected two "
                "files. Give one another name."
            )
        planned[identity] = output


def require_folder_apart(out: Path, dataset: Path, images: Iterable[Path] = ()) -> None:
    """Check, before anything is done, that an output folder is none that a dataset lies in.

    It may be a new folder in that of the dataset.

    Args:
        dataset: the folder of the dataset.
        images: images and label maps of it; the output is neither a folder that holds one, nor in such a folder.

    Raises:
        RequestError: it is.
    """
    taken = {_identity(folder) for folder in {image.parent for image in images}}
    within = (folder for folder in (out, *out.absolute().parents) if _identity(folder) in taken)
    found = out if _identity(out) == _identity(dataset) else next(within, None)
    if found is not None:
        raise RequestError(
            f"{out}: found the dataset's folder {found} in the place of the output; expected a folder of its own. "
            "Give --out another folder."
        )


def _identity(path: Path) -> object:
    """What is equal for all names of a file."""
    resolved = Path(os.path.realpath(path))  # stat alone fails on missing/../file, which leads to a file too
    try:
        found = resolved.stat()
    except OSError:  # nothing is there yet
        return resolved
    return found.st_dev, found.st_ino
