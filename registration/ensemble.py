"""Ensembles: K models predict side by side, their predictions are averaged, and the rest is computed once.

SITReg's models average their control points, level by level; U-Nets average their velocities or displacements.

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
    """An ensemble has the interface of one model; with one member it computes exactly what the member computes."""

    members: Sequence[Network]

    def __init__(self, members: Sequence[Network]) -> None:
        """Take the members.

        Raises:
            ValueError: there are no members, or their configurations or training images differ.
        """
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
    """An ensemble that averages the members' control points, level by level."""

    config: SITRegConfig
    members: Sequence[SITReg]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register level by level; see `register_by_levels`."""
        return register_by_levels(self, fixed, moving, every_level)

    def extract(self, images: BothHalves) -> list[MemberFeatures]:
        """Extract the features of every level, finest first, with one volume for each member.

        The finest features take most of an ensemble's memory. Several members therefore do not keep them but make them
        again when they are used; until then the images that they are made from stand in their place.
        """
        if self._is_single:
            return self.members[0].extract(images)
        by_member = [member.extract(images)[1:] for member in self.members]
        return [[images], *([volume for own in level for volume in own] for level in zip(*by_member, strict=True))]

    def control_points(self, level: int, features: MemberFeatures, disp_level_vox: BothHalves | None) -> BothHalves:
        """Predict the members' mean control points, in voxels of the level."""
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
    """An ensemble that averages the members' displacements, or velocities, whose mean is a diffeomorphism's too."""

    config: VoxelMorphConfig
    members: Sequence[VoxelMorph]

    def registrations(self, fixed: Image, moving: Image, every_level: bool) -> list[Registration]:
        """Register all at once; see `register_at_once`."""
        return register_at_once(self, fixed, moving)

    def predict(self, images: BothHalves) -> BothHalves:
        """Predict the members' mean displacements or velocities, in voxels, one member after the other."""
        return _mean((member.predict(images) for member in self.members), len(self.members))


def make_ensemble(members: Sequence[Network]) -> Ensemble:
    """Make an ensemble of models of one architecture.

    Raises:
        ValueError: there are no members, or their configurations or training images differ.
    """
    if any(isinstance(member, VoxelMorph) for member in members):
        return VoxelMorphEnsemble(members)
    return SITRegEnsemble(members)


def _same_reference(first: Harmonisation | None, second: Harmonisation | None) -> bool:
    if first is None or second is None:
        return first is second
    return all(torch.equal(first.get_buffer(name), each) for name, each in second.named_buffers())


def _mean(predictions: Iterable[BothHalves], count: int) -> BothHalves:
    """Average `count` predictions, made one after the other, in the memory of the first."""
    return reduce(Tensor.add_, predictions).div_(count)
