"""Compile the kernels where an image is built, so that a container, which may write nothing, finds them ready."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from lumirkit.base.memory import use_huge_pages
from lumirkit.registration.device import Place
from lumirkit.registration.ensemble import SITRegEnsemble
from lumirkit.registration.precision import Precision
from lumirkit.registration.predictor import Predictor, register_pair
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.volume import Volume
from lumirkit.registration.weights import WeightsError, load_ensemble

_EDGE = 32


def warm_up(weights: Path) -> None:
    """Register a small pair of noise with these weights in every number format, which compiles all that it calls.

    Raises:
        WeightsError: the weights cannot be used.
    """
    rng = np.random.default_rng(0)
    edge = _EDGE * load_ensemble([weights])[0].config.resolution_vox
    fixed, moving = (
        Volume(Path(name), rng.uniform(0, 255, (edge,) * 3).astype(np.float32), np.eye(4))
        for name in ("fixed", "moving")
    )
    for precision in Precision:
        network, _ = load_ensemble([weights], precision=precision)
        field = register_pair(network, fixed, moving)
        if not np.isfinite(field).all():
            raise FloatingPointError(f"{weights}: the field of a pair of noise, with {precision}, is not finite")
    if isinstance(network, SITRegEnsemble):  # alone, because its registration of noise would be left as it is
        Predictor([], Place(torch.device("cpu")), Refinement(steps=1))(fixed, moving)


if __name__ == "__main__":
    use_huge_pages()
    try:
        warm_up(Path(sys.argv[1]))
    except WeightsError as error:
        sys.exit(f"error: {error}")
