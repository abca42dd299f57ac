"""K models in lock-step: control points averaged level by level, everything after the convolutions done once.

Source: Honkamaa & Marttinen 2025. The invertibility bound is convex, so the average obeys it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from torch import Tensor, nn

from registration.sitreg import BothHalves, MemberFeatures, SITReg


class Ensemble(nn.Module):
    """Offers the interface of one model; with one member it computes exactly what the member computes."""

    def __init__(self, members: Sequence[SITReg]) -> None:
        """Raises ValueError if there are no members, or members of different configurations."""
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one model")
        if any(member.config != members[0].config for member in members):
            raise ValueError("the models of an ensemble must have the same network configuration")
        self.config = members[0].config
        self.recompute = False
        self.members: Sequence[SITReg] = nn.ModuleList(members)  # type: ignore[assignment]

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
        return reduce(Tensor.add_, predictions).div_(len(self.members))

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
