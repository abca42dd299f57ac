"""The one way from two images to a field, for every caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.ensemble import Ensemble
from lumirkit.registration.full_size import register_full_size
from lumirkit.registration.place import Place
from lumirkit.registration.volume import Volume, require_same_shape
from lumirkit.registration.weights import hash_of_members, load_ensemble


def register_pair(network: Ensemble, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
    """Register two images of one shape on the network's device.

    Returns:
        The pull-back displacement (X, Y, Z, 3) on the fixed grid, in voxels: warped(p) = moving(p + field(p)).

    Raises:
        VolumeError: the shapes differ or are too small for the network.
        torch.OutOfMemoryError: the GPU is too small.
    """
    require_same_shape(fixed, moving)
    smallest = 2 * network.config.resolution_vox
    if min(fixed.shape) < smallest:
        raise VolumeError(f"{fixed.name}: found shape {fixed.shape}; expected at least {smallest} voxels an axis.")
    device = next(network.parameters()).device
    with torch.inference_mode():
        on_device = (torch.from_numpy(image.data).to(device)[None, None] for image in (fixed, moving))
        disp_vox = register_full_size(network, *on_device).forward_vox
    return np.ascontiguousarray(disp_vox[0].movedim(0, -1).cpu().numpy())


class Predictor:
    """An ensemble at a place; where memory is short it moves, once for all pairs, to a place that needs less."""

    def __init__(self, weights: Sequence[Path], place: Place) -> None:
        """Load the ensemble.

        Args:
            weights: one to K weight files or folders of them; what they predict is averaged.

        Raises:
            WeightsError: a file cannot be used, or the members do not belong together.
        """
        self._weights = weights
        self.place = place
        self._network, cards = load_ensemble(weights, place.device, place.precision)
        self.weights_sha256 = hash_of_members(cards)
        self.members = len(cards)
        self.warnings: list[str] = []
        """Remarks about the last pair that its caller should see."""

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register a pair; see `register_pair`.

        Raises:
            VolumeError: the images cannot be registered.
        """
        self.warnings = []
        while True:
            try:
                return register_pair(self._network, fixed, moving)
            except torch.OutOfMemoryError as error:
                next_place = self.place.with_less_memory
                if next_place is None:
                    raise
                reason = str(error).partition("\n")[0]
            self._move(next_place, reason)

    def _move(self, place: Place, reason: str) -> None:
        self.warnings.append(f"{self.place} has too little memory ({reason}); went on with {place}")
        del self._network  # before the other one is loaded
        torch.cuda.empty_cache()
        self.place = place
        self._network, _ = load_ensemble(self._weights, place.device, place.precision)
