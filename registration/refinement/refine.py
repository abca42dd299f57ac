"""Refining the registration of two full-size images, or finding it without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumirkit.registration.bspline import invertibility_bound
from lumirkit.registration.contrast import is_one_contrast
from lumirkit.registration.ensemble import SITRegEnsemble
from lumirkit.registration.full_size import FullSizeRegistration
from lumirkit.registration.halves import Halves
from lumirkit.registration.losses import with_mask
from lumirkit.registration.network import Image, Registration
from lumirkit.registration.refinement.comparison import Comparison
from lumirkit.registration.refinement.descent import Course, descend
from lumirkit.registration.refinement.objective import pair_loss
from lumirkit.registration.refinement.settings import Refinement, Stage
from lumirkit.registration.refinement.updates import Mappings, NetworkUpdate, OppositeUpdate
from lumirkit.registration.resolution import coarse_shape, coarsen_image
from lumirkit.registration.second_look import registered_in_one_contrast
from lumirkit.registration.sitreg import by_levels
from lumirkit.registration.trust import try_kernels

SMALLEST_GRID = 3
"""The fewest voxels along an axis of the coarsest grid, for which folding is defined."""


@dataclass(frozen=True)
class Taken:
    """A stage that was taken, and what it did to the loss."""

    stage: Stage
    course: Course


@dataclass(frozen=True)
class Refined:
    """A refined registration, and the stages that led to it."""

    registration: FullSizeRegistration
    taken: tuple[Taken, ...]
    """Empty where a network has registered images that differ in contrast."""
    one_contrast: bool
    """Whether the registered images are alike in what is bright and dark."""


def refined_full_size(
    network: SITRegEnsemble | None,
    fixed: Image,
    moving: Image,
    settings: Refinement,
    watch: Callable[[Taken], None] | None = None,
) -> Refined:
    """Register full-size images, and refine what the network says, stage by stage.

    A stage that does not lower its loss leaves no trace; where none does, the registration is the network's own. So it
    is where the images differ in contrast, in which local correlation would lead astray what the network knows.
    Refined fields bend more than a network's, so they are composed in full size, where they are inverses at the voxels.

    Args:
        network: whose registration to begin with; None begins with the identity.
        watch: is told of each stage as it ends.

    Raises:
        ValueError: the network harmonises images and has not been fitted to any, or an axis has fewer than
            `SMALLEST_GRID` voxels on the grid of a stage.
    """
    try_kernels(fixed.device, fixed.dtype)
    shape, stages = fixed.shape[2:], settings.stages(None if network is None else network.config.resolution_vox)
    with torch.no_grad():
        compared = _of_unit_range(fixed), _of_unit_range(moving)
        if network is None:
            mappings, found = _unmoved(fixed, stages[-1].grid_vox)
        else:
            coarse = network.config.coarsened(fixed), network.config.coarsened(moving)
            mappings, found = _registered(network, *coarse, shape)
            if not _one_contrast(found.on_network_grid, *compared, network.config.resolution_vox):
                return Refined(found, (), one_contrast=False)
    taken = []
    for stage in stages:
        with torch.no_grad():
            seen = (coarsen_image(image, stage.seen_vox, brain_means=True) for image in compared)
            attempt = _Attempt(stage, settings, mappings.on(stage.grid_vox), shape, *seen)
        numbers, course = descend(attempt.loss, attempt.start, settings.steps, settings.learning_rate)
        taken.append(Taken(stage, course))
        if watch is not None:
            watch(taken[-1])
        if course.has_improved:
            with torch.no_grad():
                mappings.add(attempt.update(numbers))
    one_contrast = True
    if any(each.course.has_improved for each in taken):
        finest_vox = stages[-1].grid_vox
        with torch.no_grad():
            halves = mappings.on(finest_vox)
            found = FullSizeRegistration(halves.refined(finest_vox, shape).registration(), 1, shape)
            one_contrast = network is not None or _one_contrast(halves.registration(), *compared, finest_vox)
    return Refined(found, tuple(taken), one_contrast)


def _one_contrast(registration: Registration, fixed: Image, moving: Image, grid_vox: int) -> bool:
    """See `is_one_contrast`, for images in full size and a registration on a grid."""
    return is_one_contrast(
        registration, *(coarsen_image(image, grid_vox, brain_means=True) for image in (fixed, moving))
    )


def _unmoved(fixed: Image, grid_vox: int) -> tuple[Mappings, FullSizeRegistration]:
    """The identity: mappings on a grid, and the registration."""
    shape = fixed.shape[2:]
    zero = fixed.new_zeros((len(fixed), 3, *shape))
    return Mappings(shape, grid_vox), FullSizeRegistration(Registration(zero, zero), 1, shape)


def _registered(
    network: SITRegEnsemble, fixed: Image, moving: Image, shape: Sequence[int]
) -> tuple[Mappings, FullSizeRegistration]:
    """The network's mappings of images on its grid, of a shape in full size, and the registration that they make."""
    grid_vox = network.config.resolution_vox

    def by_updates(fixed: Image, moving: Image) -> tuple[list[NetworkUpdate], Halves, Registration]:
        updates, halves = [], Halves()
        for reached in by_levels(network, fixed, moving):
            updates.append(NetworkUpdate(reached.control_points, grid_vox * 2**reached.level))
            halves = reached.halves
        return updates, halves, halves.registration()

    updates, halves, registration = registered_in_one_contrast(
        network, fixed, moving, by_updates, registration_of=lambda found: found[2]
    )
    found = FullSizeRegistration(registration, grid_vox, shape)
    return Mappings(shape, grid_vox, updates, halves), found


def _of_unit_range(image: Image) -> Image:
    """An image whose greatest intensity is 1, as the constants of the loss expect it, whatever range it came in."""
    return image / image.amax(dim=(1, 2, 3, 4), keepdim=True)  # above 0, as the image shows a brain


class _Attempt:
    """One stage: an update more on top of those that are there."""

    def __init__(
        self,
        stage: Stage,
        settings: Refinement,
        before: Halves,
        shape: Sequence[int],
        fixed: Image,
        moving: Image,
    ) -> None:
        """Make what all steps share.

        Args:
            before: the mappings so far, on the stage's grid.
            shape: (X, Y, Z) of the images in full size.
            fixed: the fixed image as the stage compares it.
            moving: the moving image as the stage compares it.
        """
        self._stage, self._settings, self._before = stage, settings, before
        stride = stage.grid_vox // stage.seen_vox
        self._comparison = Comparison(with_mask(fixed), with_mask(moving), stride, settings.ncc_window_vox)
        self._shape = coarse_shape(shape, stage.grid_vox)
        self._bound = invertibility_bound(stage.spacing_vox // stage.grid_vox)
        self.start = fixed.new_zeros((len(fixed), 3, *coarse_shape(shape, stage.spacing_vox)))
        """The numbers of an update that moves nothing."""

    def update(self, numbers: Tensor) -> OppositeUpdate:
        """The update of some numbers, whatever they are within the bound."""
        return OppositeUpdate(self._bound * torch.tanh(numbers), self._stage.spacing_vox)

    def registration(self, numbers: Tensor) -> Registration:
        """The registration with the update of some numbers."""
        return self.update(numbers).applied(self._before, self._stage.grid_vox, self._shape).registration()

    def loss(self, numbers: Tensor) -> Tensor:
        """The loss of that registration."""
        return pair_loss(self.registration(numbers), self._comparison, self._settings)
