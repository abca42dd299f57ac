"""The one way from two images to a field, for every caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.registration.below_zero import TAKEN_FOR_BACKGROUND, reaches_below_zero
from lumirkit.registration.device import Place
from lumirkit.registration.ensemble import Ensemble, SITRegEnsemble
from lumirkit.registration.full_size import FullSizeRegistration, register_full_size
from lumirkit.registration.kernels.precompile import Precompilation, Task
from lumirkit.registration.network import Registration
from lumirkit.registration.precision import Precision
from lumirkit.registration.refinement.refine import SMALLEST_GRID, Refined, Taken, refined_full_size
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.volume import Volume, require_same_shape
from lumirkit.registration.weights import WeightsCard, hash_of_members, load_ensemble

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
        return _both_directions(_registered(network, fixed, moving))


def _registered(network: Ensemble, fixed: Volume, moving: Volume) -> FullSizeRegistration:
    _require_size(fixed, moving, 2 * network.config.resolution_vox)
    return register_full_size(network, *_on_device(next(network.parameters()).device, fixed, moving))


def _require_size(fixed: Volume, moving: Volume, smallest: int) -> None:
    require_same_shape(fixed, moving)
    if min(fixed.shape) < smallest:
        raise VolumeError(f"{fixed.name}: found shape {fixed.shape}; expected at least {smallest} voxels an axis.")


def _on_device(device: torch.device, *images: Volume) -> Iterator[Tensor]:
    return (torch.from_numpy(image.data).to(device)[None, None] for image in images)


def _both_directions(found: FullSizeRegistration) -> BothDirections:
    coarse = found.on_network_grid
    on_cpu = replace(found, on_network_grid=Registration(coarse.forward_vox.cpu(), coarse.inverse_vox.cpu()))
    return BothDirections(_as_array(found.forward_vox), InverseField(on_cpu))


def _as_array(disp_vox: DisplacementVox) -> Float32[ndarray, "x y z 3"]:
    return np.ascontiguousarray(disp_vox[0].movedim(0, -1).cpu().numpy())


@dataclass(frozen=True)
class Method:
    """What makes fields: an ensemble, and what refines its registration."""

    members: int
    """0 where there is no network."""
    weights_sha256: str
    """The hash of all members; empty where there are none."""
    refinement: Refinement | None = None


class Predictor:
    """An ensemble at a place; where memory is short it moves, once for all pairs, to a place that needs less."""

    def __init__(self, weights: Sequence[Path], place: Place, refinement: Refinement | None = None) -> None:
        """Load the ensemble.

        Args:
            weights: one to K weight files or folders of them; what they predict is averaged. With none the refinement
                alone registers.
            refinement: what is done to the network's registration of every pair; None leaves it as it is.

        Raises:
            WeightsError: a file cannot be used, or the members do not belong together.
            RequestError: the refinement does not suit the network, or there is neither of them.
        """
        self._weights = weights
        self.place = place
        self._network, cards = _ensemble(weights, place)
        self.method = Method(len(cards), hash_of_members(cards) if cards else "", refinement)
        require_method(self._network, refinement)
        self._compiling = Precompilation(_tasks(self._network, place, refinement))
        self.warnings: list[str] = []
        """Remarks about the last pair that its caller should see."""
        self.taken: tuple[Taken, ...] = ()
        """The stages of the last pair's refinement."""

    @property
    def members(self) -> int:
        """The number of models."""
        return self.method.members

    def wait_for_kernels(self) -> None:
        """Wait until all that this predictor calls is compiled; the first pair waits by itself."""
        self._compiling.wait()

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register a pair; see `register_pair`.

        Raises:
            VolumeError: the images cannot be registered.
        """
        if self.method.refinement is not None:
            return _as_array(self._refined(fixed, moving).forward_vox)
        return self._where_memory_suffices(fixed, moving, lambda network: register_pair(network, fixed, moving))

    def both_directions(
        self, fixed: Volume, moving: Volume, watch: Callable[[Taken], None] | None = None
    ) -> BothDirections:
        """Register a pair, and keep the field of the opposite direction; see `register_both_directions`.

        Args:
            watch: is told of each stage of a refinement as it ends.

        Raises:
            VolumeError: the images cannot be registered.
        """
        if self.method.refinement is not None:
            return _both_directions(self._refined(fixed, moving, watch))
        return self._where_memory_suffices(
            fixed, moving, lambda network: register_both_directions(network, fixed, moving)
        )

    def _refined(
        self, fixed: Volume, moving: Volume, watch: Callable[[Taken], None] | None = None
    ) -> FullSizeRegistration:
        """Register a pair and refine it; keeps the stages, and warns where the refinement gained nothing."""
        settings = self.method.refinement
        assert settings is not None
        _require_size(fixed, moving, SMALLEST_GRID * settings.stages(self._resolution_vox)[0].grid_vox)
        if not ((fixed.data > 0) & (moving.data > 0)).any():
            raise VolumeError(
                f"{fixed.name} and {moving.name}: no voxel shows brain (> 0) in both; expected brains that overlap. "
                "Align the images first."
            )

        def register(network: SITRegEnsemble | None) -> Refined:
            fixed_image, moving_image = _on_device(self.place.device, fixed, moving)
            return refined_full_size(network, fixed_image, moving_image, settings, watch)

        refined = self._where_memory_suffices(fixed, moving, register)
        self.taken = refined.taken
        self.warnings += _remarks(refined, self.members)
        return refined.registration

    @property
    def _resolution_vox(self) -> int | None:
        return None if self._network is None else self._network.config.resolution_vox

    def _where_memory_suffices(self, fixed: Volume, moving: Volume, register: Callable[[Any], Found]) -> Found:
        self.warnings, self.taken = _remarks_on_intensities(fixed, moving), ()
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
        self._network, _ = _ensemble(self._weights, place)


def _ensemble(weights: Sequence[Path], place: Place) -> tuple[Ensemble | None, Sequence[WeightsCard]]:
    return load_ensemble(weights, place.device, place.precision) if weights else (None, [])


def require_method(network: Ensemble | None, refinement: Refinement | None) -> None:
    """Check that a network or a refinement registers, and that they suit each other.

    Raises:
        RequestError: they do not.
    """
    if refinement is None:
        if network is None:
            raise RequestError("found neither weights nor a refinement; expected one of them: add --refine.")
        return
    if not (network is None or isinstance(network, SITRegEnsemble)):
        raise RequestError(
            f"--refine: found weights of the architecture {network.config.architecture}; expected sitreg, whose "
            "control points a refinement begins with. Leave --refine out, or use --weights none."
        )
    refinement.stages(None if network is None else network.config.resolution_vox)


def _remarks_on_intensities(*images: Volume) -> list[str]:
    return [
        f"{image.name}: found intensities of {image.data.min():.4g}…{image.data.max():.4g}; {TAKEN_FOR_BACKGROUND}"
        for image in images
        if reaches_below_zero(image.data)
    ]


def _remarks(refined: Refined, members: int) -> list[str]:
    """What the caller should know of a refinement that did not end as it should."""
    remarks, courses = [], [taken.course for taken in refined.taken]
    if any(course.ended_by_nan for course in courses):
        remarks.append("the refinement met a loss of NaN or inf, and ended there with the best that it had found")
    if not refined.one_contrast:
        remarks.append(
            "the images differ in contrast, which the refinement cannot compare; "
            + ("the network's field stands" if members else "look at this field, or begin with a network")
        )
    if courses and not any(course.has_improved for course in courses):
        remarks.append(
            "the refinement gained nothing; " + ("the network's field stands" if members else "nothing moves")
        )
    return remarks


def _tasks(network: Ensemble | None, place: Place, refinement: Refinement | None) -> list[Task]:
    """What is compiled before pairs are registered at a place; a GPU has code of its own."""
    if place.device.type != "cpu":
        return []
    tasks = [] if refinement is None else [Task.REFINE]
    if network is not None:
        tasks.append(Task.REGISTER if place.precision is Precision.FLOAT32 else Task.REGISTER_IN_BFLOAT16)
        tasks += [Task.MIND] if network.config.input_transform == "mind" else []
    return tasks
