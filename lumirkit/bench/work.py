"""Works and their measurements, which travel as JSON between the command and the process of a work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt

from lumirkit.base.errors import KitError
from lumirkit.bench.kinds import Kind, Shape
from lumirkit.registration.architecture import NetworkConfig
from lumirkit.registration.precision import Precision


class BenchError(KitError):
    """Some works could not be measured; everything else was, and is written."""

    exit_status = 1


class Work(BaseModel):
    """One measurement to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    shape: Shape
    """(X, Y, Z) of the images."""
    network: NetworkConfig
    convolutions: Precision = Precision.FLOAT32
    members: PositiveInt = 1
    """The number of models of the ensemble."""
    repeats: PositiveInt = 5
    device: str = "cpu"
    plain_torch: bool = False
    """Whether to do without the compiled kernels."""
    recompute: bool = False
    """Whether a training step keeps only what goes from level to level."""
    reference: Path | None = None
    """A checkout of the public SITReg code, to be measured instead of ours."""


class Spread(BaseModel):
    """The median, the smallest and the largest of the repeats."""

    median: float
    min: float
    max: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(median=statistics.median(values), min=min(values), max=max(values))


class Measurement(BaseModel):
    """The time and the memory that a work took: seconds of the wall clock, and GB of 10^9 bytes."""

    seconds: Spread
    parts: dict[str, Spread] = {}
    """The seconds of a training step's parts: forward (with the loss), backward, optimizer."""
    peak_memory_gb: float
    """The peak memory of the work's own process; on a GPU, what torch allocated there."""
    work_memory_gb: float
    """The peak memory without what the process held before the work began: Python and its libraries."""
    convolution_flop: int | None = None
    """The number of floating-point operations in the convolutions of one call."""
    saved_gb: float | None = None
    """The memory that autograd keeps for the backward pass, without the parameters."""
    raw_s: Spread | None = None
    """The seconds that it takes to read or write the same bytes without decoding them."""
    mean_displacement_vox: float | None = None
    """The mean length of the displacements that the random weights give, in voxels."""
