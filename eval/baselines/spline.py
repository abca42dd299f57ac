"""The refinement without a network as a reference method: a classical registration that trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float32
from numpy import ndarray

from lumirkit.eval.baselines.method import Baseline
from lumirkit.registration.device import find_place
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Spline(Baseline):
    """Symmetric spline updates from the identity, from grids of 8 mm to 1 mm, found by descent on local NCC."""

    package: ClassVar[str | None] = "lumirkit"

    steps: int = 20
    finest_vox: int = 1
    device: str = "auto"

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register, as `lumirkit register --weights none --refine` does.

        Raises:
            VolumeError: the brains do not overlap, or an image is too small.
        """
        refinement = Refinement(steps=self.steps, finest_vox=self.finest_vox)
        return Predictor([], find_place(self.device, "float32"), refinement)(fixed, moving)
