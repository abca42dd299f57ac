"""The check that a field shows the motion which is known to be there, in sign, axis and, roughly, size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from lumirkit.submission.container.exam_data import ROTATION_DEGREES, TRANSLATION_VOX

# A network that was never shown such motions finds a part of them, a weak one a small part. What counts is direction:
# the opposite, another axis or another unit is no part of it.
_LEAST, _MOST = 0.1, 1.7
_MOST_SIDEWAYS = 0.5  # as a share of what is found along the motion


def translation_found(disp_vox: Float[ndarray, "x y z 3"], brain: Bool[ndarray, "x y z"]) -> tuple[bool, str]:
    """Whether the mean displacement in the brain is the known translation, and what was found."""
    mean = disp_vox[brain].mean(axis=0)
    size = float(np.linalg.norm(TRANSLATION_VOX))
    along = float(mean @ TRANSLATION_VOX) / size**2
    sideways = float(np.linalg.norm(mean - along * TRANSLATION_VOX)) / size
    found = f"mean {_listed(mean)} voxels, of {_listed(TRANSLATION_VOX)}"
    return _is_right(along, sideways), found


def rotation_found(disp_vox: Float[ndarray, "x y z 3"], brain: Bool[ndarray, "x y z"]) -> tuple[bool, str]:
    """Whether the field turns the brain about the known axis by the known angle, and what was found.

    The angles are those of the least-squares rotation for small angles, about each axis.
    """
    offsets = np.argwhere(brain) - (np.array(brain.shape) - 1) / 2
    offsets = offsets - offsets.mean(axis=0)
    moved = disp_vox[brain] - disp_vox[brain].mean(axis=0)
    torque = np.cross(offsets, moved).sum(axis=0)
    inertia = np.eye(3) * (offsets**2).sum() - offsets.T @ offsets
    angles = np.degrees(np.linalg.solve(inertia, torque))
    along, sideways = angles[2] / ROTATION_DEGREES, float(np.linalg.norm(angles[:2])) / ROTATION_DEGREES
    found = f"{_listed(angles)} degrees about the axes, of {_listed((0, 0, ROTATION_DEGREES))}"
    return _is_right(along, sideways), found


def _is_right(along: float, sideways: float) -> bool:
    """Whether a motion, by its parts along and across the known one relative to its size, is the same one."""
    return bool(_LEAST <= along <= _MOST and sideways <= _MOST_SIDEWAYS * along)


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
