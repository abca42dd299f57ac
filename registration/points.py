"""Points in files: tables (CSV) and Slicer's markups (.fcsv, .mrk.json), read with their coordinate system."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.base.errors import RequestError
from lumirkit.registration.grid import flip_lps

_COLUMNS = {("x", "y", "z"): "RAS", ("r", "a", "s"): "RAS", ("l", "p", "s"): "LPS"}
_SYSTEMS = {"RAS": "RAS", "LPS": "LPS", "0": "RAS", "1": "LPS"}  # Slicer's words, and its numbers of earlier versions
_SEPARATORS = ",;\t"
_KINDS = "a table (CSV in UTF-8 or UTF-16), or markups of Slicer (.fcsv, .mrk.json)"


@dataclass(frozen=True)
class Points:
    """Points of a file, and how to write the file with others in their place."""

    ras_mm: Float64[ndarray, "n 3"]
    text_with: Callable[[Float64[ndarray, "n 3"]], str]
    """The text of the file with other points, in RAS mm, all else kept."""
    suffix: str
    """What a file with this text is called: .csv, .fcsv or .mrk.json."""
    like_ants: bool = False
    """Whether the columns are those of ANTs, x, y, z and t, which counts in LPS mm."""


def read_points(path: Path) -> Points:
    """Read the points of a file; its name says which kind it is, and everything but .fcsv and .json is a table.

    Raises:
        RequestError: the file cannot be read, or does not say without doubt where its points are.
    """
    text = _text(path)
    if path.name.endswith(".fcsv"):
        return _markups_list(text, path)
    if path.name.endswith(".json"):
        return _markups(text, path)
    return _table(text, path)


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte-order mark."""
    try:
        content = path.read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path}: not a readable CSV file, found bytes that are no UTF-8 ({error.reason} at byte {error.start}); "
            f"expected {_KINDS}. Save a table as UTF-8; write the points of a surface or of tracts as a table."
        ) from error
    except OSError as error:
        raise RequestError(
            f"{path}: not a readable CSV file ({error.strerror}); expected the columns x, y, z. Check the path."
        ) from error


def _table(text: str, path: Path) -> Points:
    first = text.lstrip().partition("\n")[0]
    if first.startswith("<"):
        raise RequestError(f"{path}: found XML; expected {_KINDS}. Write the points of a surface as a table.")
    if not first:
        raise RequestError(f"{path}: not a readable CSV file, it is empty; expected the columns x, y, z. Fill it.")
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise RequestError(
            f"{path}: not a readable CSV file (line {reader.line_num}: {error}); expected the columns x, y, z. Mend it."
        ) from error
    (_, header), *rows = rows
    for line, row in rows:
        if len(row) != len(header):
            raise RequestError(
                f"{path}: line {line} has {len(row)} fields; expected {len(header)}, one for each name in the first "
                "line. Correct the line or the names."
            )
    at, system = _coordinate_columns(header, path)
    cells = [row for _, row in rows]

    def text_with(ras_mm: Float64[ndarray, "n 3"]) -> str:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(_replaced(row, at, point) for row, point in zip(cells, _in(system, ras_mm), strict=True))
        return out.getvalue()

    points_mm = _in(system, _numbers([[row[column] for column in at] for row in cells]))
    return Points(points_mm, text_with, ".csv", [name.strip().lower() for name in header[:4]] == ["x", "y", "z", "t"])


def _coordinate_columns(header: list[str], path: Path) -> tuple[list[int], str]:
    """The places of the three coordinates among the columns of a table, and their coordinate system."""
    names = [name.strip().lower() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise RequestError(f"{path}: found the column {twice[0]} twice; expected each once. Remove or rename one.")
    found = [triple for triple in _COLUMNS if set(triple) <= set(names)]
    if len(found) != 1:
        raise RequestError(
            f"{path}: found the columns {', '.join(header)}; expected x, y and z, RAS mm of the fixed image, named in "
            "the first line, or r, a, s or l, p, s. Name three columns so."
        )
    return [names.index(name) for name in found[0]], _COLUMNS[found[0]]


def _markups_list(text: str, path: Path) -> Points:
    """Read Slicer's .fcsv, whose comments name the columns and the coordinate system."""
    said = dict(re.findall(r"^#\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    columns = [name.strip() for name in said.get("columns", "").split(",")]
    if not {"x", "y", "z"} <= set(columns):
        raise RequestError(
            f"{path}: found no comment `# columns = id,x,y,z,…`; expected it as Slicer writes it. Save the file again."
        )
    system = _system(said.get("CoordinateSystem"), path)
    at = [columns.index(name) for name in "xyz"]
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    cells = [next(csv.reader([lines[place]])) for place in places]
    for place, row in zip(places, cells, strict=True):
        if len(row) < len(columns):  # Slicer itself writes more fields than it names
            raise RequestError(
                f"{path}: line {place + 1} has {len(row)} fields; expected {len(columns)} or more. Save the file again."
            )

    def text_with(ras_mm: Float64[ndarray, "n 3"]) -> str:
        written = list(lines)
        for place, row, point in zip(places, cells, _in(system, ras_mm), strict=True):
            out = io.StringIO()
            csv.writer(out, lineterminator="").writerow(_replaced(row, at, point))
            written[place] = out.getvalue()
        return "\n".join(written) + "\n"

    return Points(_in(system, _numbers([[row[column] for column in at] for row in cells])), text_with, ".fcsv")


def _markups(text: str, path: Path) -> Points:
    """Read Slicer's .mrk.json: the control points of all markups, each with its own coordinate system."""
    try:
        document = json.loads(text)
        markups = [(_system(markup.get("coordinateSystem"), path), markup) for markup in document["markups"]]
        found = [(system, point) for system, markup in markups for point in markup["controlPoints"]]
        positions = [_in(system, _numbers([point["position"]])) for system, point in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path}: not markups as Slicer writes them ({type(error).__name__}: {error}); expected `markups` with "
            "`coordinateSystem` and `controlPoints`, each with a `position`. Save the file again."
        ) from error

    def text_with(ras_mm: Float64[ndarray, "n 3"]) -> str:
        for (system, point), position in zip(found, ras_mm, strict=True):
            point["position"] = _in(system, position).tolist()
        return json.dumps(document, indent=4, ensure_ascii=False) + "\n"

    return Points(np.concatenate(positions) if positions else np.empty((0, 3)), text_with, ".mrk.json")


def _system(said: Any, path: Path) -> str:
    if said not in _SYSTEMS:
        raise RequestError(
            f"{path}: found the coordinate system {said!r}; expected RAS or LPS, as Slicer writes it. Save it again."
        )
    return _SYSTEMS[said]


def _in(system: str, points_mm: Float64[ndarray, "*n 3"]) -> Float64[ndarray, "*n 3"]:
    """Points in RAS mm in a coordinate system, or the other way round."""
    return points_mm if system == "RAS" else flip_lps(points_mm)


def _numbers(cells: list[list[Any]]) -> Float64[ndarray, "n 3"]:
    """The coordinates that cells hold; NaN where one holds no number."""
    return np.array([[_number(cell) for cell in row] for row in cells], np.float64).reshape(-1, 3)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.nan


def _replaced(row: list[str], at: list[int], point: Float64[ndarray, " 3"]) -> list[str]:
    """A row with another point in its three columns."""
    written = list(row)
    for column, coordinate in zip(at, point, strict=True):
        written[column] = repr(float(coordinate))
    return written
