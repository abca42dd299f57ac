"""The one way from two images to a field, for every caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.device import Place
from lumirkit.registration.ensemble import Ensemble
from lumirkit.registration.full_size import FullSizeRegistration, register_full_size
from lumirkit.registration.kernels.precompile import Precompilation, Task
from lumirkit.registration.network import CommonConfig, Registration
from lumirkit.registration.precision import Precision
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.volume import Volume, require_same_shape
from lumirkit.registration.weights import hash_of_members, load_ensemble

Found = TypeVar("Found")


@dataclass(frozen=True)
class BothDirections:
    """The field of a pair, and what gives that of the exchanged pair."""

    forward_vox: Float32[ndarray, "x y z 3"]
    """The field on the fixed image, which points into the moving one."""
    inverse: InverseField


@dataclass(frozen=True)
class InverseField:
    """The field on the moving image, which points into the fixed one, kept at the network's resolution."""

    on_cpu: FullSizeRegistration

    def to_voxels(self) -> Float32[ndarray, "x y z 3"]:
        """Make the field of full size."""
        with torch.inference_mode():
            return _as_array(self.on_cpu.inverse_vox)


def register_pair(network: Ensemble, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
    """Register two images of one shape on the network's device.

    Returns:
        The pull-back displacement (X, Y, Z, 3) on the fixed grid, in voxels: warped(p) = moving(p + field(p)).

    Raises:
        VolumeError: the shapes differ or are too small for the network.
        torch.OutOfMemoryError: the GPU is too small.
    """
    with torch.inference_mode():
        return _as_array(_registered(network, fixed, moving).forward_vox)


def register_both_directions(network: Ensemble, fixed: Volume, moving: Volume) -> BothDirections:
    """Register as `register_pair` does, and keep the network's field of the opposite direction too.

    Raises:
        VolumeError: the shapes differ or are too small for the network.
        torch.OutOfMemoryError: the GPU is too small.
    """
    with torch.inference_mode():
        found = _registered(network, fixed, moving)
        coarse = found.on_network_grid
        on_cpu = replace(found, on_network_grid=Registration(coarse.forward_vox.cpu(), coarse.inverse_vox.cpu()))
        return BothDirections(_as_array(found.forward_vox), InverseField(on_cpu))


def _registered(network: Ensemble, fixed: Volume, moving: Volume) -> FullSizeRegistration:
    require_same_shape(fixed, moving)
    smallest = 2 * network.config.resolution_vox
    if min(fixed.shape) < smallest:
        raise VolumeError(f"{fixed.name}: found shape {fixed.shape}; expected at least {smallest} voxels an axis.")
    device = next(network.parameters()).device
    return register_full_size(
        network, *(torch.from_numpy(image.data).to(device)[None, None] for image in (fixed, moving))
    )


def _as_array(disp_vox: DisplacementVox) -> Float32[ndarray, "x y z 3"]:
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
        self._compiling = Precompilation(_tasks(self._network.config, place))
        self.weights_sha256 = hash_of_members(cards)
        self.members = len(cards)
        self.warnings: list[str] = []
        """Remarks about the last pair that its caller should see."""

    def wait_for_kernels(self) -> None:
        """Wait until all that this predictor calls is compiled; the first pair waits by itself."""
        self._compiling.wait()

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register a pair; see `register_pair`.

        Raises:
            VolumeError: the images cannot be registered.
        """
        return self._where_memory_suffices(lambda network: register_pair(network, fixed, moving))

    def both_directions(self, fixed: Volume, moving: Volume) -> BothDirections:
        """Register a pair, and keep the field of the opposite direction; see `register_both_directions`.

        Raises:
            VolumeError: the images cannot be registered.
        """
        return self._where_memory_suffices(lambda network: register_both_directions(network, fixed, moving))

    def _where_memory_suffices(self, register: Callable[[Ensemble], Found]) -> Found:
        self.warnings = []
        self.wait_for_kernels()
        while True:
            try:
                return register(self._network)
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


def _tasks(config: CommonConfig, place: Place) -> list[Task]:
    """What is compiled before a network registers at a place; a GPU has code of its own."""
    if place.device.type != "cpu":
        return []
    forward = Task.REGISTER if place.precision is Precision.FLOAT32 else Task.REGISTER_IN_BFLOAT16
    return [forward, Task.MIND] if config.input_transform == "mind" else [forward]
