"""K models in lock-step: what they predict is averaged, everything after the convolutions is done once.

Of SITReg it is the control points, level by level; of U-Nets the velocity or the displacement.

Source: Honkamaa & Marttinen 2025. The invertibility bound is convex, so the average obeys it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from lumirkit.registration.harmonise import Harmonisation
from lumirkit.registration.network import BothHalves, Image, Network, Registering, Registration
from lumirkit.registration.sitreg import MemberFeatures, SITReg, SITRegConfig, register_by_levels
from lumirkit.registration.voxelmorph import VoxelMorph, VoxelMorphConfig, register_at_once


class Ensemble(Registering):
    """Offers the interface of one model; with one member it computes exactly what the member computes."""

    members: Sequence[Network]

    def __init__(self, members: Sequence[Network]) -> None:
        """Raises ValueError if there are no members, or members of different configurations or training images."""
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one model")
        if any(member.config != members[0].config for member in members):
            raise ValueError("the models of an ensemble must have the same network configuration")
        self.config, self.harmonisation = members[0].config, members[0].harmonisation
        if any(not _same_reference(member.harmonisation, self.harmonisation) for member in members):
            raise ValueError("the models of an ensemble must harmonise alike; expected the same training images")
        self.recompute = False
        self.members = nn.ModuleList(members)  # type: ignore[assignment]


class SITRegEnsemble(Ensemble):
    """The control points are averaged, level by level."""

    config: SITRegConfig
    members: Sequence[SITReg]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Level by level; see `register_by_levels`."""
        return register_by_levels(self, fixed, moving, every_level)

    def extract(self, images: BothHalves) -> list[MemberFeatures]:
        """Features of every level, finest first, one volume a member.

        Of several members the finest features, which are most of an ensemble's memory, are made again when they are
        used; the images that they are made from stand in their place.
        """
        if self._is_single:
            return self.members[0].extract(images)
        by_member = [member.extract(images)[1:] for member in self.members]
        return [[images], *([volume for own in level for volume in own] for level in zip(*by_member, strict=True))]

    def control_points(self, level: int, features: MemberFeatures, disp_level_vox: BothHalves | None) -> BothHalves:
        """The members' mean control points, in voxels of the level."""
        make = self._finest_features(features) if level == 0 and not self._is_single else self._kept(features)
        predictions = (member.control_points(level, [make(member)], disp_level_vox) for member in self.members)
        return _mean(predictions, len(self.members))

    @property
    def _is_single(self) -> bool:
        return len(self.members) == 1

    @staticmethod
    def _finest_features(features: MemberFeatures) -> Callable[[SITReg], BothHalves]:
        images = features.pop()
        return lambda member: member.finest_features(images)

    @staticmethod
    def _kept(features: MemberFeatures) -> Callable[[SITReg], BothHalves]:
        features.reverse()  # so that `pop` gives the first member's
        return lambda member: features.pop()


class VoxelMorphEnsemble(Ensemble):
    """The displacements are averaged, or the velocities, whose mean is that of a diffeomorphism too."""

    config: VoxelMorphConfig
    members: Sequence[VoxelMorph]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """All at once; see `register_at_once`."""
        return register_at_once(self, fixed, moving)

    def predict(self, images: BothHalves) -> BothHalves:
        """The members' mean displacements or velocities, in voxels, one member after the other."""
        return _mean((member.predict(images) for member in self.members), len(self.members))


def make_ensemble(members: Sequence[Network]) -> Ensemble:
    """An ensemble of models of one architecture.

    Raises:
        ValueError: there are no members, or members of different configurations or training images.
    """
    of_unets = any(isinstance(member, VoxelMorph) for member in members)
    return VoxelMorphEnsemble(members) if of_unets else SITRegEnsemble(members)


def _same_reference(first: Harmonisation | None, second: Harmonisation | None) -> bool:
    if first is None or second is None:
        return first is second
    return all(torch.equal(first.get_buffer(name), each) for name, each in second.named_buffers())


def _mean(predictions: Iterable[BothHalves], count: int) -> BothHalves:
    """The mean of so many, made one after the other; the first one's memory takes it."""
    return reduce(Tensor.add_, predictions).div_(count)
