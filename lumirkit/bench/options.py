"""The options of a benchmark, and the sizes that it measures at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.bench.kinds import Shape
from lumirkit.registration.precision import Precision

_SMALLEST_AXIS = 8


@dataclass(frozen=True)
class Options:
    """The options of a benchmark."""

    device: str = "cpu"
    network: str = "lumir25"
    """The name of a shipped recipe, or the path of one; its `network` is measured."""
    precisions: Sequence[Precision] = (Precision.FLOAT32,)
    members: int = 5
    repeats: int = 5
    plain: bool = False
    """Whether to measure the plain torch versions of the compiled kernels, too."""
    threads: int | None = None
    """The number of torch's threads; None takes as many as torch does by itself."""
    reference: Path | None = None
    """A checkout of the public SITReg repository, to be measured at the same works."""
    reference_repeats: int | None = None
    """The repeats of the public code; None takes as many as for ours."""


def parse_size(text: str) -> Shape:
    """Read (X, Y, Z) from a text such as 160x224x192.

    Raises:
        RequestError: the text is not of that form, or an axis is too short for the losses.
    """
    try:
        x, y, z = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise RequestError(f"--size {text}: expected voxels along three axes, such as 160x224x192") from error
    if min(x, y, z) < _SMALLEST_AXIS:
        raise RequestError(f"--size {text}: expected at least {_SMALLEST_AXIS} voxels along each axis")
    return x, y, z
