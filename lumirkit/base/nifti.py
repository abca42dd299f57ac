"""NIfTI files: their names, and their bytes."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import nibabel as nib
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from lumirkit.base.errors import VolumeError
from lumirkit.base.files import require_writable_file

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)
"""What nibabel and gzip raise on damaged files."""

_NIFTI2_HEADER_BYTES = 540
_HEADER_BYTES = (348, _NIFTI2_HEADER_BYTES)
_GZIP_MAGIC = b"\x1f\x8b"
_POINTERS = (
    (b"version https://git-lfs", "Git LFS", "git lfs pull"),
    (b"annex/objects", "git-annex", "git annex get"),
)
_ENOUGH = 200  # bytes that tell what a file is

_reading: ContextVar[Path | None] = ContextVar("_reading", default=None)
_said: set[tuple[Path, str]] = set()


def _name_the_file(record: logging.LogRecord) -> bool:
    """Let what nibabel says of an odd header name the file, and pass once; what it says elsewhere passes as it is."""
    path = _reading.get()
    if path is None:
        return True
    remark = (path, record.getMessage())
    record.msg, record.args = f"warning: {path}: {record.getMessage()}", ()
    is_new = remark not in _said
    _said.add(remark)
    return is_new


logging.getLogger("nibabel.global").addFilter(_name_the_file)


@contextmanager
def _while_reading(path: Path) -> Iterator[None]:
    """Name a file in all that nibabel says meanwhile."""
    before = _reading.set(path)
    try:
        yield
    finally:
        _reading.reset(before)


def open_nifti(path: Path) -> nib.Nifti1Image:
    """Read the header of a NIfTI file; its voxels stay on the disk.

    Raises:
        VolumeError: the file is missing, not NIfTI, or has no voxel.
    """
    require_fetched(path)
    if not path.is_file():
        raise VolumeError(f"{path}: no such file; expected a NIfTI image (.nii or .nii.gz). Check the path.")
    try:
        with _while_reading(path):
            image = nib.load(path)
    except DAMAGE as error:
        raise VolumeError(
            _what_it_is(path)
            or f"{path}: not a readable NIfTI image ({in_one_line(error)}); expected .nii or .nii.gz. Convert it or "
            "download it again."
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise VolumeError(f"{path}: found a {type(image).__name__}; expected a NIfTI image. Convert it to .nii.gz.")
    if 0 in image.shape:
        raise VolumeError(f"{path}: found shape {image.shape}, which has no voxel; expected some. Export it again.")
    return image


def require_fetched(path: Path) -> None:
    """Check that a file is no link of git-annex whose content was not fetched.

    Raises:
        VolumeError: it is.
    """
    if path.is_symlink() and not path.exists():
        raise VolumeError(
            f"{path}: found a link to {path.readlink()}, which is not there; expected a NIfTI image. Fetch it, as "
            "`git annex get` or `datalad get` does."
        )


def in_one_line(error: Exception) -> str:
    """What an error says, without the line breaks that nibabel puts into some messages."""
    return " ".join(str(error).split())


def read_nifti(path: Path, content: bytes | None = None) -> nib.Nifti1Image:
    """Read a NIfTI file to its last byte, checksum included; on a damaged file it raises one of `DAMAGE`.

    nibabel alone takes twice the time for its stream, and stops at the last voxel, before the checksum.

    Args:
        content: the bytes of the file, where the caller has read them already.
    """
    raw = path.read_bytes() if content is None else content
    if path.suffix.lower() == ".gz":  # as nibabel decides; a file that is not as its name says is refused
        raw = igzip.decompress(raw)
    is_nifti2 = _says_header_size(raw, _NIFTI2_HEADER_BYTES)
    with _while_reading(path):
        return (nib.Nifti2Image if is_nifti2 else nib.Nifti1Image).from_bytes(raw)


def _says_header_size(raw: bytes, size: int) -> bool:
    """Whether the first field of a header, which is its own size, says this one, in either byte order."""
    return size in (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big"))


def _what_it_is(path: Path) -> str | None:
    """What to say of a file that is no damaged image, but something else by its first bytes."""
    with path.open("rb") as file:
        start = file.read(_ENOUGH)
    if start.startswith(_GZIP_MAGIC) and path.suffix != ".gz":
        return f"{path}: found a gzip file; expected one of that name to be unpacked. Call it {path.name}.gz."
    if path.suffix == ".gz" and any(_says_header_size(start, size) for size in _HEADER_BYTES):
        return f"{path}: found an unpacked image; expected one of that name to be packed. Call it {path.stem}."
    if path.suffix == ".gz" and _is_packed_twice(path):
        return (
            f"{path}: found a gzip file inside the gzip file; expected an image in it. Unpack it once, as `gunzip -c "
            f"{path.name} > NEW.nii.gz` does."
        )
    for pointer, tool, command in _POINTERS:
        if pointer in start:
            return f"{path}: found a pointer of {tool} to the image; expected the image. Fetch it with `{command}`."
    return None


def _is_packed_twice(path: Path) -> bool:
    try:
        with igzip.open(path) as file:
            return bool(file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC)
    except DAMAGE:
        return False


def require_nifti_name(path: Path) -> None:
    """Check that a file to be written is named as NIfTI.

    Raises:
        VolumeError: the name ends in neither .nii nor .nii.gz.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path}: expected a file name that ends in .nii.gz or .nii. Give the output such a name.")


def require_output(path: Path) -> None:
    """Check, before anything is computed, that a NIfTI file can be written here.

    Raises:
        VolumeError: it is not called like one.
        RequestError: it is a folder, or its folder cannot be made or is not writable.
    """
    require_nifti_name(path)
    require_writable_file(path)
