"""What is left of an affine alignment that failed. The label map moves along, so what is true stays true."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.ndimage import affine_transform, center_of_mass
from scipy.spatial.transform import Rotation

from lumirkit.eval.stress.over_brain import filtered_brain
from lumirkit.eval.stress.scan import Scan


def rotated(scan: Scan, degrees: float, generator: np.random.Generator) -> Scan:
    """Turn the brain about its centre, around a random axis."""
    turn = Rotation.from_rotvec(np.radians(degrees) * _direction(generator))
    return moved(scan, turn.as_matrix(), np.zeros(3))


def shifted(scan: Scan, mm: float, generator: np.random.Generator) -> Scan:
    """Shift the brain in a random direction, to the next whole voxel along each axis.

    Between voxels the nearest label could lie half a voxel beside the truth, everywhere to one side.
    """
    steps = np.rint(mm * _direction(generator) / scan.voxel_mm)
    return moved(scan, np.eye(3), steps * scan.voxel_mm)


def scaled(scan: Scan, percent: float, generator: np.random.Generator) -> Scan:
    """Make the brain larger along every axis, or smaller where `percent` is negative."""
    return moved(scan, (1 + percent / 100) * np.eye(3), np.zeros(3))


def moved(scan: Scan, matrix: Float[ndarray, "3 3"], shift_mm: Float[ndarray, " 3"]) -> Scan:
    """Bring what is at p to c + matrix (p - c) + shift, c the brain's centre of mass; image and labels alike.

    What leaves the grid is lost to both.

    Args:
        matrix: of positions in mm along the axes of the array.
    """
    mm = scan.voxel_mm
    centre_vox = np.array(center_of_mass(scan.brain))
    back = np.linalg.inv(matrix)
    in_voxels = back * mm[None, :] / mm[:, None]  # from a voxel of the result to one of the scan
    offset = centre_vox - in_voxels @ centre_vox - (back @ shift_mm) / mm
    read = partial(affine_transform, matrix=in_voxels, offset=offset, mode="grid-constant")
    intensities, brain = filtered_brain(scan, partial(read, order=1))
    return replace(scan.showing(intensities, brain), labels=read(scan.labels, order=0))


def _direction(generator: np.random.Generator) -> Float64[ndarray, " 3"]:
    """Draw a direction, evenly from all of them."""
    direction = generator.normal(size=3)
    return direction / np.linalg.norm(direction)
