"""Two label maps of one pair compared over a list of labels: everything that is measured label by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int32, Int64
from numpy import ndarray

from lumirkit.data_manifests.structures import structure_name
from lumirkit.eval.metrics.dice import confusion_matrix, dice_per_label, index_map, label_index
from lumirkit.eval.metrics.hausdorff import SurfaceScores, find_surfaces, surface_scores_per_label


@dataclass(frozen=True)
class Maps:
    """Label maps or landmarks of one pair, and the moving one warped onto the fixed grid."""

    fixed: Int32[ndarray, "x y z"]
    moving: Int32[ndarray, "x y z"]
    warped: Int32[ndarray, "x y z"]


@dataclass(frozen=True)
class Comparison:
    """Fixed and warped map over one list of labels; `ids` are the labels in rising order, the index of everything.

    The last index of `confusion` and `in_moving` stands for all other ids.
    """

    ids: Int64[ndarray, " labels"]
    fixed: Int16[ndarray, "x y z"]
    moving: Int16[ndarray, "x y z"]
    warped: Int16[ndarray, "x y z"]
    confusion: Int64[ndarray, "labels+1 labels+1"]
    in_moving: Int64[ndarray, " labels+1"]

    @classmethod
    def of(cls, maps: Maps, labels: Sequence[int]) -> Comparison:
        """Compare the maps over `labels`."""
        table, ids = label_index(labels), np.unique(np.asarray(labels, dtype=np.int64))
        fixed, moving, warped = (index_map(each, table) for each in (maps.fixed, maps.moving, maps.warped))
        size = ids.size + 1  # the last index stands for all other ids
        in_moving = np.bincount(moving.reshape(-1, order="F"), minlength=size)
        return cls(ids, fixed, moving, warped, confusion_matrix(fixed, warped, size), in_moving)

    @cached_property
    def dice(self) -> Float64[ndarray, " labels"]:
        """Dice of each label."""
        return dice_per_label(self.confusion, self.in_moving)[:-1]

    @cached_property
    def surfaces(self) -> SurfaceScores:
        """Distances between the surfaces of each label."""
        fixed, warped = (find_surfaces(each, self.ids.size) for each in (self.fixed, self.warped))
        return surface_scores_per_label(fixed, warped, self.scored)

    @cached_property
    def scored(self) -> Bool[ndarray, " labels"]:
        """Labels that both maps had before warping."""
        return (self.confusion.sum(axis=1)[:-1] > 0) & (self.in_moving[:-1] > 0)

    @cached_property
    def structures(self) -> Bool[ndarray, " labels"]:
        """The scored labels that are not background."""
        return self.scored & (self.ids > 0)

    def causes(self, background: bool = True) -> list[str]:
        """Reasons why a mean over the labels, with or without background, is not a finite number."""
        scored = self.scored if background else self.structures
        if not scored.any():
            above = "" if background else " above 0"
            return [f"the fixed and the moving map share no label{above} of the config"]
        gone = scored & (self.confusion.sum(axis=0)[:-1] == 0)
        return [f"label {label} ({structure_name(int(label))}) was emptied by warping" for label in self.ids[gone]]
