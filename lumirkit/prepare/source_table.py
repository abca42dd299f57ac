"""Subjects by a table (CSV): the columns subject, contrast, image, and if wanted mask, labels, landmarks, part."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.split import Part
from lumirkit.prepare.sources import Contrast, Found, Scan, grouped

_NEEDED = ("subject", "contrast", "image")
_COLUMNS = (*_NEEDED, "mask", "labels", "landmarks", "part")


def read_table(path: Path) -> Found:
    """Read the subjects of a table; paths are relative to its folder.

    Raises:
        RequestError: it cannot be read, or a line says something impossible; the message names the line.
    """
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), restval="")
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path}: cannot be read ({error}); expected a CSV file or a folder of images.") from error
    columns = reader.fieldnames or ()
    if not set(_NEEDED) <= set(columns) <= set(_COLUMNS):
        raise RequestError(
            f"{path}: found the columns {', '.join(map(str, columns)) or 'none'}; expected {', '.join(_NEEDED)}, and "
            f"if wanted {', '.join(_COLUMNS[len(_NEEDED) :])}. Name them so in the first line, between commas."
        )
    parts: dict[str, Part | None] = {}
    scans = []
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise RequestError(f"{path}, line {line}: found more fields than columns; expected {len(columns)}.")
        name = row["subject"].strip()
        part = _part(row, f"{path}, line {line}")
        if parts.setdefault(name, part) != part:
            raise RequestError(f"{path}, line {line}: found {name} in two parts; expected one. Correct it.")
        scans.append((name, _scan(row, path.parent, f"{path}, line {line}")))
    return Found(grouped(scans, parts.get))


def _scan(row: Mapping[str, str], folder: Path, where: str) -> Scan:
    try:
        contrast = Contrast(row["contrast"].strip())
    except ValueError as error:
        raise RequestError(
            f"{where}: found the contrast {row['contrast']!r}; expected one of {', '.join(Contrast)}."
        ) from error
    files = {kind: folder / given for kind in _COLUMNS[2:6] if (given := (row.get(kind) or "").strip())}
    if not row["subject"].strip() or "image" not in files:
        raise RequestError(f"{where}: found no subject or no image; expected both. Fill them in.")
    return Scan(contrast, **files)


def _part(row: Mapping[str, str], where: str) -> Part | None:
    given = (row.get("part") or "").strip()
    if given not in ("", Part.TRAINING, Part.VALIDATION):
        raise RequestError(f"{where}: found the part {given!r}; expected training or validation.")
    return Part(given) if given else None
