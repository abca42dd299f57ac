"""Points of tables and of Slicer's markups: found by name, in their coordinate system, or refused; never shifted."""

import json

import numpy as np
import pytest

from lumirkit.registration.convention import Convention
from lumirkit.registration.field import write_field
from lumirkit.registration.grid import Grid

GRID = Grid((20, 20, 20), np.diag([-1.0, 1, 1, 1]) + np.array([[0, 0, 0, 9.0], *[[0, 0, 0, -9.0]] * 2, [0] * 4]))


@pytest.fixture
def carry(command, tmp_path):
    """Carry a file of points by one mm to the right; returns the status, what was said and what was written."""
    disp_vox = np.broadcast_to([-1.0, 0, 0], (*GRID.shape, 3))
    write_field(tmp_path / "field.nii.gz", disp_vox, GRID, GRID, Convention.ITK)

    def run(text, name="points.csv", out="there.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        request = ("warp", tmp_path / "field.nii.gz", "--points", tmp_path / name, "--out", tmp_path / out)
        status, said = command(*request)
        written = tmp_path / out
        return status, said, written.read_text() if written.exists() else None

    return run


TWO = "x,y,z,name\n1,2,3,a\n-4,5,6,b\n"
CARRIED = "x,y,z,name\n2.0,2.0,3.0,a\n-3.0,5.0,6.0,b\n"


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (TWO, "utf-8", CARRIED),
        (TWO, "utf-8-sig", CARRIED),
        (TWO, "utf-16", CARRIED),
        (TWO.replace("\n", "\r\n"), "utf-8", CARRIED),
        (TWO.replace(",", ", "), "utf-8", CARRIED),
        (TWO.replace(",", ";"), "utf-8", CARRIED.replace(",", ";")),
        (TWO.replace(",", "\t"), "utf-8", CARRIED.replace(",", "\t")),
        (" X ,Y,Z\n1,2,3\n\n", "utf-8", " X ,Y,Z\n2.0,2.0,3.0\n".replace(" X ", "X ")),
        ("label,l,p,s\nF-1,-1,-2,3\n", "utf-8", "label,l,p,s\nF-1,-2.0,-2.0,3.0\n"),
        ("s,r,a\n3,1,2\n", "utf-8", "s,r,a\n3.0,2.0,2.0\n"),
        ("x,y,z\n", "utf-8", "x,y,z\n"),
    ],
    ids=["plain", "BOM", "UTF-16", "CRLF", "spaces", "semicolons", "tabs", "capitals", "LPS", "RAS", "no points"],
)
def test_columns_are_found_by_name(carry, text, encoding, expected):
    assert carry(text, encoding=encoding) == (0, "", expected)


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("x,y,z\n1,2,3,7\n-4,5,6,8\n", "utf-8", "line 2 has 4 fields; expected 3"),
        ("x,y,z\n1,2,3\n-4,5\n", "utf-8", "line 3 has 2 fields; expected 3"),
        ("x,y,z\n1,2,3,\n", "utf-8", "line 2 has 4 fields; expected 3"),
        ("x,y,z,X\n1,2,3,9\n", "utf-8", "found the column x twice"),
        ("x,y,z,r,a,s\n1,2,3,1,2,3\n", "utf-8", "found the columns x, y, z, r, a, s; expected x, y and z"),
        ("1,2,3\n-4,5,6\n", "utf-8", "found the columns 1, 2, 3; expected x, y and z"),
        ("x,y,z,name\n1,2,3,é\n", "latin-1", "bytes that are no UTF-8"),
        ("<?xml version='1.0'?>\n<GIFTI/>\n", "utf-8", "found XML; expected a table"),
        ("x;y;z\n1,5;2;3\n", "utf-8", "point 1 is not three finite numbers"),
        ('x,y,z\n1,2,"3\n', "utf-8", "not a readable CSV file (line 2"),
    ],
    ids=[
        "long rows",
        "short row",
        "trailing comma",
        "twice",
        "two systems",
        "no names",
        "Latin-1",
        "surface",
        "decimals",
        "quote",
    ],
)
def test_what_is_not_said_without_doubt_is_refused(carry, text, encoding, message):
    status, said, written = carry(text, encoding=encoding)
    assert (status, written) == (2, None)
    assert "points.csv: " in said
    assert message in said


def test_the_columns_of_ants_are_told_of(carry):
    status, said, written = carry("x,y,z,t\n1,2,3,0\n")
    assert (status, written) == (0, "x,y,z,t\n2.0,2.0,3.0,0\n")
    assert "points.csv: its columns x, y, z, t are those of ANTs" in said


FCSV = """# Markups fiducial file version = 5.6
# CoordinateSystem = LPS
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,-1,-2,3,0,0,0,1,1,1,0,"F, 1",,,2,0
"""


@pytest.mark.parametrize(("system", "x"), [("LPS", "-2.0"), ("1", "-2.0"), ("RAS", "0.0"), ("0", "0.0")])
def test_a_list_of_slicer_keeps_its_system(carry, system, x):
    given = FCSV.replace("= LPS", f"= {system}")
    expected = given.replace("1,-1,-2,3,", f"1,{x},-2.0,3.0,")
    assert carry(given, "points.fcsv", "there.fcsv") == (0, "", expected)


def markups(**changes):
    points = [{"id": "1", "label": "é", "position": [-1, -2, 3]}, {"id": "2", "position": [4, -5, 6]}]
    return {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points, **changes}]}


def test_markups_of_slicer_keep_all_but_the_places(carry):
    status, said, written = carry(json.dumps(markups()), "points.mrk.json", "there.mrk.json")
    assert (status, said) == (0, "")
    expected = markups()
    for point, position in zip(expected["markups"][0]["controlPoints"], ([-2, -2, 3], [3, -5, 6]), strict=True):
        point["position"] = position
    assert json.loads(written) == expected


@pytest.mark.parametrize(
    ("text", "name", "out", "message"),
    [
        (FCSV.replace("# CoordinateSystem = LPS\n", ""), "a.fcsv", "b.fcsv", "found the coordinate system None"),
        (FCSV.replace("= LPS", "= IJK"), "a.fcsv", "b.fcsv", "found the coordinate system 'IJK'"),
        (FCSV.replace("# columns", "# names"), "a.fcsv", "b.fcsv", "found no comment `# columns"),
        (FCSV.replace(",0,0,0,1", ""), "a.fcsv", "b.fcsv", "line 4 has 12 fields; expected 14 or more"),
        (FCSV, "a.fcsv", "b.csv", "expected a name that ends in .fcsv"),
        (TWO, "a.csv", "b.fcsv", "expected a name that ends in .csv"),
        (json.dumps(markups(coordinateSystem="2")), "a.mrk.json", "b.mrk.json", "found the coordinate system '2'"),
        (json.dumps({"points": []}), "a.mrk.json", "b.mrk.json", "not markups as Slicer writes them"),
        (json.dumps(markups(controlPoints=[{"position": None}])), "a.mrk.json", "b.mrk.json", "not markups as Slicer"),
    ],
)
def test_unusable_markups_are_refused(carry, text, name, out, message):
    status, said, written = carry(text, name, out)
    assert (status, written) == (2, None)
    assert message in said
