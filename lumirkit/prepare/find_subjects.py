"""The subjects of whatever a user names: a folder of images, a BIDS tree, or a table."""

from __future__ import annotations

from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.prepare.source_folder import read_folder
from lumirkit.prepare.source_table import read_table
from lumirkit.prepare.sources import IMAGE_SUFFIXES, Found


def find_subjects(source: Path, labels_suffix: str | None = None) -> Found:
    """Find the subjects of a folder of images, of a BIDS tree, or of a table (CSV).

    Args:
        labels_suffix: see `read_folder`.

    Raises:
        RequestError: there is no such thing, it holds no image, or a table has the suffix beside it.
    """
    if source.is_dir():
        found = read_folder(source, labels_suffix)
    elif source.is_file():
        if labels_suffix is not None:
            raise RequestError(
                f"--labels-suffix {labels_suffix}: found a table, {source}; expected a folder. Name the files in the "
                "column labels."
            )
        found = read_table(source)
    else:
        raise RequestError(f"{source}: no such file or folder; expected images, a BIDS tree or a CSV. Check the path.")
    if not found.subjects:
        raise RequestError(
            f"{source}: found no image; expected files that end in {', '.join(IMAGE_SUFFIXES)}, or folders of DICOM "
            "files. Name another folder."
        )
    return found
