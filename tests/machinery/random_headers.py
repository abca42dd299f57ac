"""Random NIfTI files, header field by header field, as other tools and accidents write them, and what is said of them.

A file is ordinary but for at most two oddities: any rotation, flip and order of axes, either version and byte order,
any codes, any type of real numbers. `LUMIRKIT_EXAMPLES=500` draws so many files a test, others in every run;
without it a few are drawn, the same ones in every run.
"""

import gzip
import os
import re
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel as nib
import numpy as np
import typer
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from lumirkit.commands.main import app, main

_COMMANDS = typer.main.get_command(app)

REAL = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
CODES = {"binary": 1, "colours": 128, "float128": 1536, "complex64": 32, "complex128": 1792, "unknown": 16384}
PLACES = ("sheared", "flat", "no number", "tiny", "huge", "far", "forms", "silent", "codes", "units", "pixdim", "qform")
TYPES = ("type", "slope")
VALUES = ("NaN", "inf", "constant", "zero", "negative", "large")
SHAPES = ("slice", "2-D", "series", "ones", "empty")
FILES = ("pair", "mgz", "truncated")
ALL = PLACES + TYPES + VALUES + SHAPES + FILES

HAS_ANTS = find_spec("ants") is not None
PIXDIMS = [(1, 0, 0, 0), (1, 1, 0, 1), (0, 1, 1, 1), (-1, 2, 2, 2), (1, -1, 1, 1), (np.nan,), (3.5, 1, 1, 1)]
PIXDIMS += [(1, np.nan, 1, 1), (1, np.inf, 1, 1), (1, 1e-30, 1, 1), (1, 1e30, 1e30, 1e30), (1, 2, 2, 2)]
_OF_PLACE = ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units")
_OF_PLACE += ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def draws(few: int) -> settings:
    """Settings of a test of random files."""
    asked = os.environ.get("LUMIRKIT_EXAMPLES")
    return settings(
        max_examples=int(asked or few),
        derandomize=asked is None,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate),  # making a failing draw smaller takes many minutes
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Place:
    """The fields of a header that say where the voxels lie, as they stand in the file."""

    sform: np.ndarray
    qform: np.ndarray
    codes: tuple[int, int]
    """Of the sform and the qform."""
    units: int = 2
    pixdim: tuple[float, ...] | None = None
    quatern: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class RandomFile:
    """An image to write; `values` are the numbers before the scale factor and the type are applied."""

    place: Place
    values: np.ndarray = field(repr=False)
    dtype: str = "float32"
    slope: float = 1
    inter: float = 0
    version: int = 1
    order: str = "<"
    suffix: str = ".nii.gz"
    intent: int = 0
    oddities: frozenset[str] = field(default_factory=frozenset)

    @np.errstate(all="ignore")
    def header(self) -> nib.Nifti1Header:
        """The header, whose fields need not agree."""
        kinds = {(1, False): nib.Nifti1Header, (1, True): nib.nifti1.Nifti1PairHeader}
        kinds |= {(2, False): nib.nifti2.Nifti2Header, (2, True): nib.nifti2.Nifti2PairHeader}
        header = kinds[self.version, self.suffix == ".hdr"](endianness=self.order)
        header["dim"][: 1 + self.values.ndim] = (self.values.ndim, *self.values.shape)
        place = self.place
        try:
            header.set_qform(place.qform, 1, strip_shears=True)
        except Exception:  # a matrix that has no quaternion
            header["pixdim"][1:4] = np.nan_to_num(np.linalg.norm(place.qform[:3, :3], axis=0))
        for row, numbers in zip("xyz", place.sform, strict=False):
            header[f"srow_{row}"] = numbers
        header["sform_code"], header["qform_code"] = place.codes
        header["xyzt_units"] = place.units
        if place.pixdim is not None:
            header["pixdim"][: len(place.pixdim)] = place.pixdim
        if place.quatern is not None:
            header["quatern_b"], header["quatern_c"], header["quatern_d"] = place.quatern
        header["scl_slope"], header["scl_inter"] = self.slope, self.inter
        header["intent_code"] = self.intent
        header["vox_offset"] = 0 if self.suffix == ".hdr" else {1: 352, 2: 544}[self.version]
        if self.dtype in CODES:
            header["datatype"] = CODES[self.dtype]
        else:
            header["datatype"] = nib.nifti1.data_type_codes.code[self.dtype]
        header["bitpix"] = self.stored_type().itemsize * 8
        return header

    def stored_type(self) -> np.dtype:
        if self.dtype in ("binary", "unknown"):
            return np.dtype("u1")
        return np.dtype("V3") if self.dtype == "colours" else np.dtype(self.dtype).newbyteorder(self.order)

    def voxels(self) -> bytes:
        stored = self.stored_type()
        if stored.kind == "V":
            return bytes(3 * self.values.size)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = self.values
            if stored.kind in "ui":
                limits = np.iinfo(stored)
                values = np.clip(np.nan_to_num(values), float(limits.min), np.nextafter(float(limits.max), 0))
            return values.astype(stored).tobytes(order="F")

    def write(self, folder: Path, stem: str) -> Path:
        """Write the file, and that of the voxels beside it where it has one."""
        path = folder / f"{stem}{self.suffix}"
        if self.suffix == ".mgz":
            good = self.place.sform if np.isfinite(self.place.sform).all() else np.eye(4)
            nib.save(nib.MGHImage(self.values.astype(np.float32), good), path)
            return path
        head, voxels = self.header().binaryblock, self.voxels()
        if "truncated" in self.oddities:
            voxels = voxels[: len(voxels) // 2]
        if self.suffix == ".hdr":
            path.write_bytes(head)
            path.with_suffix(".img").write_bytes(voxels)
            return path
        content = head + bytes(4) + voxels
        path.write_bytes(gzip.compress(content, 1) if self.suffix == ".nii.gz" else content)
        return path


def tenths(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of one digit behind the point."""
    return st.integers(round(10 * low), round(10 * high)).map(lambda n: n / 10)


@st.composite
def affines(draw: Any, spacing_mm: tuple[float, float] = (0.7, 2.5)) -> np.ndarray:
    """An ordinary affine: rotated, flipped, with axes exchanged, of millimetres."""
    angles = draw(st.sampled_from([None, st.tuples(*[tenths(-40, 40)] * 3)]))
    turn = np.eye(3) if angles is None else Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix()
    spacing = np.array(draw(st.tuples(*[tenths(*spacing_mm)] * 3)))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    axes = np.diag(spacing * signs)[:, draw(st.permutations(range(3)))]
    return from_matvec(turn @ axes, draw(st.tuples(*[tenths(-60, 60)] * 3)))


@st.composite
def places(draw: Any, odd: frozenset[str], spacing_mm: tuple[float, float] = (0.7, 2.5)) -> Place:
    """The place of an image, ordinary but for its oddities."""
    affine = draw(affines(spacing_mm))
    linear, origin = affine[:3, :3], affine[:3, 3]
    if "sheared" in odd:
        linear = linear @ np.array([[1, draw(tenths(-0.5, 0.5)), 0], [0, 1, draw(tenths(0, 0.3))], [0, 0, 1]])
    if "flat" in odd:
        flat = draw(st.sampled_from([np.diag([1, 1, 0]), np.diag([1, 1, 1e-8]), np.ones((3, 3)), np.zeros((3, 3))]))
        linear = linear @ flat
    if "tiny" in odd:
        factor = 10.0 ** draw(st.sampled_from([-1, -2, -3, -5, -12, -30]))
        linear, origin = linear * factor, origin * draw(st.sampled_from([1, factor]))
    if "huge" in odd:
        linear = linear * 10.0 ** draw(st.sampled_from([2, 3, 5, 12, 30, 37]))
    if "far" in odd:
        origin = origin * 10.0 ** draw(st.sampled_from([2, 4, 6, 8, 12, 30, 36]))
    sform = from_matvec(linear, origin)
    qform = sform
    if "forms" in odd:
        other = draw(affines(spacing_mm))
        sform, qform = draw(st.sampled_from([(sform, other), (other, qform), (sform, from_matvec(linear, origin + 1))]))
    if "no number" in odd:
        sform = sform.copy()
        sform[draw(st.integers(0, 2)), draw(st.integers(0, 3))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    codes = draw(st.sampled_from([(s, q) for s in range(5) for q in range(5) if s or q]))
    if "silent" in odd:
        codes = (0, 0)
    if "codes" in odd:
        codes = draw(st.sampled_from([(-1, 1), (1, -1), (7, 0), (0, 9), (-3, -3), (200, 300), (0, 0)]))
    units = (
        draw(st.sampled_from([2, 2, 2, 0, 10]))
        if "units" not in odd
        else draw(st.sampled_from([1, 3, 9, 11, 5, 7, 57, 59, 63, 255, 18, 26]))
    )
    pixdim = quatern = None
    if "pixdim" in odd:
        pixdim = draw(st.sampled_from(PIXDIMS))
    if "qform" in odd:
        quatern = draw(
            st.sampled_from([(0.9, 0.9, 0.9), (np.nan, 0, 0), (0, np.inf, 0), (1, 0, 0), (1.0001, 0, 0), (5, 5, 5)])
        )
    return Place(sform, qform, codes, units, pixdim, quatern)


def oddities(kinds: tuple[str, ...] = ALL, most: int = 2) -> st.SearchStrategy[frozenset[str]]:
    """What is odd about a file; about a third are ordinary."""
    return st.integers(0, most).flatmap(lambda n: st.frozensets(st.sampled_from(kinds), min_size=n, max_size=n))


@st.composite
def random_files(draw: Any, content: np.ndarray, odd: frozenset[str], place: Place | None = None) -> RandomFile:
    """An image of given content (X, Y, Z), from 0 to 120, ordinary but for its oddities."""
    values = content.astype(np.float64)
    if "NaN" in odd or "inf" in odd:
        values = values.copy()
        values[tuple(n // 2 for n in values.shape)] = (
            np.nan if "NaN" in odd else draw(st.sampled_from([np.inf, -np.inf]))
        )
    if "constant" in odd:
        values = np.full_like(values, draw(st.sampled_from([1, 7, 100])))
    if "zero" in odd:
        values = np.zeros_like(values)
    if "negative" in odd:
        values = values - draw(st.sampled_from([3, 60, 127]))
    if "large" in odd:
        values = values * 10.0 ** draw(st.sampled_from([3, 6, 17, 30, 37, 300]))
    if "slice" in odd:
        at = draw(st.integers(0, 2))
        values = np.take(values, [values.shape[at] // 2], at)
    if "2-D" in odd:
        values = values[:, :, values.shape[2] // 2]
    if "series" in odd:
        values = np.stack([values, values[::-1]], axis=-1)
    if "ones" in odd:
        values = values.reshape(*values.shape, *[1] * draw(st.integers(1, 6 - values.ndim)))
    if "empty" in odd:
        values = values[:0]
    slope, inter = 1.0, 0.0
    if "slope" in odd:
        slope = draw(st.sampled_from([0, np.nan, np.inf, -2, 0.5, 1e-3, 3, 1e20, 1e-30, 2]))
        inter = draw(st.sampled_from([0, 0, -10, 5, 0.5, np.nan, np.inf]))
    suffix = draw(st.sampled_from([".nii", ".nii.gz"]))
    if "pair" in odd:
        suffix = ".hdr"
    if "mgz" in odd and 3 <= values.ndim <= 4 and "ones" not in odd and values.size:
        suffix = ".mgz"
    return RandomFile(
        draw(places(odd)) if place is None else place,
        values,
        draw(st.sampled_from(tuple(CODES) if "type" in odd else REAL)),
        slope,
        inter,
        draw(st.sampled_from([1, 1, 2])),
        draw(st.sampled_from(["<", "<", ">"])),
        suffix,
        0,
        odd,
    )


def run(*words: Any) -> tuple[int, str]:
    """Run a command in this process, without building all commands anew; returns its status and what it said."""
    said = StringIO()
    argv = patch.object(sys, "argv", ["lumirkit", *map(str, words)])
    quietly = patch("lumirkit.commands.main.app", _COMMANDS), redirect_stderr(said), redirect_stdout(StringIO())
    with argv, quietly[0], quietly[1], quietly[2], warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a user would read it between the sentences
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    raise AssertionError("a command ends with a status")


def require_refusal(status: int, said: str, folder: Path, before: set[Path]) -> None:
    """Check that a command said in one sentence why it did nothing, and left nothing behind."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 2, (status, said)
    assert len(errors) == 1, said
    assert said.rstrip().splitlines()[-1] == errors[0], said
    assert set(folder.iterdir()) == before
    event(f"refused: {kind_of(errors[0], folder)}")


def kind_of(sentence: str, folder: Path) -> str:
    """A sentence without the numbers and the names of its files."""
    text = re.sub(r"/(\w+)\.(nii\.gz|nii|hdr|mgz)", r"\1", sentence.replace(str(folder), "").removeprefix("error: "))
    text = re.sub(r"\b[\dx]+ voxels of .*?, first voxel at [^;:]*? mm\b", "GRID", text)
    text = re.sub(r"\([^()]*\)", "(…)", text)
    text = re.sub(r"\[.*\]", "[…]", text)
    text = re.sub(r"-?\b(\d[\d.e+-]*|inf|nan)\b|[RLAPSI]{3}\b", "#", text)
    return re.sub(r"(#[x, ]*)+", "# ", text)


def read_values(path: Path) -> np.ndarray:
    """The numbers in a file, by nibabel."""
    return nib.load(path).get_fdata(dtype=np.float64)


def affine_of(path: Path) -> np.ndarray:
    """The affine of a file to mm, by nibabel and the units of the header."""
    image = nib.load(path)
    to_mm = {1: 1e3, 3: 1e-3}.get(int(image.header["xyzt_units"]) % 8, 1.0)
    return np.vstack([image.affine[:3] * to_mm, [0, 0, 0, 1]])


def itk_affine_of(path: Path, file: RandomFile) -> np.ndarray | None:
    """Where ITK sees a file: by ANTs itself, or as nibabel where the header says one thing; None where nobody knows."""
    odd = file.oddities & set(PLACES)
    if odd <= {"tiny", "huge", "far"} or (odd == {"sheared"} and file.place.codes[1] <= 0):
        return affine_of(path)
    judged = HAS_ANTS and odd <= {"forms", "units", "codes", "silent"}  # others end its process
    return _read_by_ants(path) if judged else None


def _read_by_ants(path: Path) -> np.ndarray:
    """The affine of a twin with voxels of a type that ANTs reads."""
    import ants

    image = nib.load(path)
    header, twin = image.header, path.with_name("twin.nii")
    copy = nib.Nifti1Header()
    for key in _OF_PLACE:
        copy[key] = header[key]
    shape = (*image.shape, 1, 1)[:3]
    copy.set_data_dtype(np.uint8)
    copy["dim"][:4] = (3, *shape)
    copy["vox_offset"] = copy.single_vox_offset
    twin.write_bytes(copy.binaryblock + bytes(4) + bytes(int(np.prod(shape))))
    seen = ants.image_read(str(twin))
    twin.unlink()
    return RAS_LPS @ from_matvec(seen.direction @ np.diag(seen.spacing), seen.origin)


def indices(shape: tuple[int, ...]) -> np.ndarray:
    """The index of every voxel, (X, Y, Z, 3)."""
    return np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
