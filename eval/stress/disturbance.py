"""What a disturbance is: a function of a scan, a strength in a physical unit, and a source of random numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lumirkit.base.errors import RequestError
from lumirkit.eval.stress.scan import Scan

Change = Callable[[Scan, float, np.random.Generator], Scan]


@dataclass(frozen=True)
class Disturbance:
    """One way in which scans differ, and the strengths at which it is tried."""

    name: str
    what: str
    """What is done, for readers of a report."""
    unit: str
    """The unit of the strength."""
    change: Change
    strengths: tuple[float, ...]
    """Those that are tried where nobody asks for others."""
    bounds: tuple[float, float]
    """The strengths that mean something; the ends are among them."""
    neutral: float = 0.0
    """The strength at which a scan stays as it is, to the last bit."""
    both_images: bool = False
    """Whether both images of a pair are disturbed: by what a study does to all its scans. Else the moving one is."""

    def require(self, strength: float) -> None:
        """Check a strength.

        Raises:
            RequestError: it means nothing.
        """
        low, high = self.bounds
        if not low <= strength <= high:
            raise RequestError(
                f"--disturbance {self.name}: found the strength {strength:g}; expected one from {low:g} to {high:g} "
                f"({self.unit})."
            )

    def __call__(self, scan: Scan, strength: float, seed: Sequence[int]) -> Scan:
        """Disturb a scan.

        Args:
            seed: numbers of at least 0 that the disturbance belongs to. The strength is not among them: what grows
                with it is one and the same disturbance.

        Raises:
            RequestError: the strength means nothing.
            VolumeError: the scan cannot be disturbed so.
        """
        self.require(strength)
        if strength == self.neutral:
            return scan
        return self.change(scan, strength, np.random.default_rng([zlib.crc32(self.name.encode()), *seed]))
