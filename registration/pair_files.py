"""Registration from image files to field files: one pair with its checks, or many with their failures collected.

Whatever registers two images, a network or a reference method, is a `RegisterPair` here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.failure import reason_of
from lumirkit.base.progress import Progress
from lumirkit.registration.volume import Volume, read_image, require_same_shape, write_displacement

RegisterPair = Callable[[Volume, Volume], Float32[ndarray, "x y z 3"]]
"""(fixed, moving) -> pull-back displacement on the fixed grid, in voxels, components in array-axis order."""


class Named(Protocol):
    """Anything that has the name of its pair."""

    @property
    def case_name(self) -> str:
        """The name of the pair in the organisers' result."""


NamedT = TypeVar("NamedT", bound=Named)


@dataclass(frozen=True)
class Failure:
    """A pair that could not be registered, and why."""

    case_name: str
    reason: str


def read_pair(
    fixed: Path,
    moving: Path,
    shape: tuple[int, int, int] | None = None,
    contents: Mapping[Path, bytes] | None = None,
) -> tuple[Volume, Volume]:
    """Read two images that can be registered.

    Args:
        shape: (X, Y, Z) that both must have; None where any one shape will do.
        contents: the bytes of the files, where the caller has read them already.

    Raises:
        VolumeError: an image cannot be used, or their shapes differ.
    """
    known = contents or {}
    images = read_image(fixed, known.get(fixed)), read_image(moving, known.get(moving))
    for volume in images:
        if shape is not None and volume.shape != shape:
            raise VolumeError(f"{volume.name}: found shape {volume.shape}; expected {shape} as the dataset JSON says.")
    require_same_shape(*images)
    return images


def register_files(
    register_pair: RegisterPair, fixed: Path, moving: Path, out: Path, shape: tuple[int, int, int] | None = None
) -> float:
    """Read two images, register them and write the field; returns the seconds that the registration alone took.

    Args:
        shape: (X, Y, Z) that both images must have; None where any one shape will do.

    Raises:
        VolumeError: an image cannot be used; nothing was written.
    """
    fixed_image, moving_image = read_pair(fixed, moving, shape)
    start = time.perf_counter()
    disp_vox = register_pair(fixed_image, moving_image)
    seconds = time.perf_counter() - start
    write_displacement(out, disp_vox, fixed_image.affine)
    return seconds


def for_each_pair(pairs: Sequence[NamedT], do: Callable[[NamedT], None]) -> list[Failure]:
    """Call `do` for every pair, showing progress; whatever goes wrong with one costs that pair and no other.

    Returns:
        The pairs that failed; all others are done.
    """
    failures = []
    with Progress(len(pairs), "registering") as progress:
        for pair in pairs:
            try:
                do(pair)
            except Exception as error:
                failures.append(Failure(pair.case_name, reason_of(error, pair.case_name)))
            progress.advance(pair.case_name)
    return failures
