"""The reference method that registers nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.eval.baselines.method import Baseline
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Zero(Baseline):
    """No registration: the field is zero everywhere."""

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """The zero field on the fixed grid."""
        return np.zeros((*fixed.shape, 3), np.float32)
