"""K models in lock-step: control points averaged level by level, everything after the convolutions done once.

Source: Honkamaa & Marttinen 2025. The invertibility bound is convex, so the average obeys it too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

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
        """Features of every level, finest first, one volume a member."""
        by_member = [member.extract(images) for member in self.members]
        return [[volume for own in level for volume in own] for level in zip(*by_member, strict=True)]

    def control_points(self, level: int, features: MemberFeatures, disp_level_vox: BothHalves | None) -> BothHalves:
        """The members' mean control points, in voxels of the level."""
        features.reverse()  # so that `pop` gives the first member's
        predictions = [member.control_points(level, [features.pop()], disp_level_vox) for member in self.members]
        return torch.stack(predictions).mean(dim=0)
