"""Reading a pair's images, and finding out whether its field has to be made at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lumirkit.base.errors import VolumeError
from lumirkit.base.failure import reason_of, traceback_of
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.masks import masked
from lumirkit.registration.pair_files import read_pair
from lumirkit.registration.volume import Volume
from lumirkit.submission.stamp import Maker, is_made


@dataclass(frozen=True)
class LoadedPair:
    """A pair in memory, and the stamp of the field that will be made of it."""

    files: PairFiles
    fixed: Volume
    moving: Volume
    stamp: str


@dataclass(frozen=True)
class MadePair:
    """A pair whose field is there already."""

    files: PairFiles


@dataclass(frozen=True)
class UnusablePair:
    """A pair whose images cannot be registered, and why."""

    files: PairFiles
    reason: str
    traceback: str
    """Where it happened; empty where the reason says all."""


def load_pair(files: PairFiles, maker: Maker, may_keep: bool = True) -> LoadedPair | MadePair | UnusablePair:
    """Read a pair, unless the field is there, whole, and made by this maker of these images; no error leaves it.

    Args:
        may_keep: whether such a field is kept; else the pair is read all the same.
    """
    try:
        return _load(files, maker, may_keep)
    except Exception as error:  # whatever it is, it costs no other pair
        return UnusablePair(files, reason_of(error, files.images), traceback_of(error))


def _load(files: PairFiles, maker: Maker, may_keep: bool) -> LoadedPair | MadePair:
    contents = {path: _content(path) for path in files.inputs}
    fixed, moving = read_pair(files.fixed, files.moving, files.shape, contents)
    stamp = maker.stamp(contents.values())
    if may_keep and is_made(files.field, stamp, fixed.shape):
        return MadePair(files)
    if files.masks is not None:
        fixed, moving = (
            masked(volume, mask, contents[mask]) for volume, mask in zip((fixed, moving), files.masks, strict=True)
        )
    return LoadedPair(files, fixed, moving, stamp)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror}). Check the path and who may read it.") from error
