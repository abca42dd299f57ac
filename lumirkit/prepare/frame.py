"""The frame of a dataset, and images, label maps and landmarks carried to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8
from nibabel.affines import apply_affine, from_matvec
from numpy import ndarray
from scipy.ndimage import center_of_mass

from lumirkit.base.errors import VolumeError
from lumirkit.prepare.label_map import resampled_ids
from lumirkit.prepare.read_head import read_label_map
from lumirkit.registration.any_pair.frame import BRIGHTEST, resampled
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import axes_text
from lumirkit.registration.label_ids import narrowed
from lumirkit.registration.points import read_points
from lumirkit.registration.volume import Volume, read_image

_BRIGHT_PERCENTILE = 99.8
_MOST_LANDMARKS = 255  # ids of a map in bytes


@dataclass(frozen=True, eq=False)
class Template:
    """The brain that heads are aligned to, and the frame that it gives them."""

    brain: Volume
    frame: Grid
    filled: Bool[ndarray, "x y z"]
    """The voxels of the frame that the brain fills."""


def read_template(path: Path) -> Template:
    """Read the brain of a file as a template.

    Raises:
        VolumeError: the file cannot be used, or its axes run otherwise than along RAS.
    """
    brain = read_image(path)
    frame = frame_of_template(brain)
    return Template(brain, frame, inside_in_frame(brain.data > 0, brain, frame))


def frame_of_template(template: Volume) -> Grid:
    """The grid of 1 mm that covers the same box as the template, along its axes.

    Raises:
        VolumeError: these run otherwise than along RAS.
    """
    grid = Grid.from_image(template)
    axes = axes_text(template.affine)
    if axes != "RAS":
        raise VolumeError(f"{template.name}: found axes {axes}; expected RAS of a template. Reorient it.")
    x, y, z = (int(size) for size in np.rint(grid.spacing_mm * grid.shape))
    directions = template.affine[:3, :3] / grid.spacing_mm
    corner = apply_affine(template.affine, [-0.5, -0.5, -0.5])
    return Grid((x, y, z), from_matvec(directions, corner + directions @ np.full(3, 0.5)))


def inside_in_frame(inside: Bool[ndarray, "i j k"], image: Volume, frame: Grid) -> Bool[ndarray, "x y z"]:
    """The voxels of the frame that are brain; `image` lies where the alignment puts it."""
    share = resampled(Volume(image.name, inside.astype(np.float32), image.affine), frame)
    return share.data >= 0.5


def brightest(head: Volume, inside: Bool[ndarray, "x y z"]) -> float:
    """The intensity of the brain that becomes 255, as in the challenge: its 99.8th percentile.

    Raises:
        VolumeError: the brain is dark everywhere.
    """
    bright = float(np.percentile(head.data[inside], _BRIGHT_PERCENTILE)) if inside.any() else 0.0
    if bright <= 0:
        raise VolumeError(f"{head.name}: is 0 where its brain should be. Look at the image and its mask.")
    return bright


def as_bytes(head: Volume, inside: Bool[ndarray, "x y z"], bright: float) -> UInt8[ndarray, "x y z"]:
    """Intensities as the challenge has them: 0 to `bright` become 0 to 255, and all outside the brain is 0.

    Voxels of the brain have 1 at least.

    Args:
        bright: see `brightest`.
    """
    scaled = np.clip(np.rint(head.data * (BRIGHTEST / bright)), 1, BRIGHTEST)
    return np.where(inside, scaled, 0).astype(np.uint8)


def labels_in_frame(path: Path, to_scan: Float64[ndarray, "4 4"], frame: Grid) -> Shaped[ndarray, "x y z"]:
    """A label map on the frame, each voxel with the id that has the largest share of it.

    Args:
        to_scan: takes positions of the frame to positions in the scan, in RAS mm.

    Raises:
        VolumeError: the map cannot be read, or has no id within the frame.
    """
    ids, grid = read_label_map(path)
    found = resampled_ids(narrowed(ids, path), grid.voxel_from_mm @ to_scan @ frame.affine, frame.shape)
    if not found.any():
        raise VolumeError(f"{path}: no id of it lies in the brain's place; expected labels of this scan.")
    return found


def landmarks_in_frame(path: Path, to_scan: Float64[ndarray, "4 4"], frame: Grid) -> UInt8[ndarray, "x y z"]:
    """A landmark map: a cube of 3 x 3 x 3 voxels with the id 1, 2, … where each landmark lies in the frame.

    Args:
        path: a map whose ids are the landmarks, or a file of points, counted in its order.
        to_scan: takes positions of the frame to positions in the scan, in RAS mm.

    Raises:
        VolumeError: there are no landmarks or too many, or one lies outside the frame.
        RequestError: a file of points cannot be read.
    """
    points = _landmarks_mm(path)
    if not 1 <= max(points, default=0) <= _MOST_LANDMARKS or min(points) < 1:
        raise VolumeError(f"{path}: found {len(points)} landmarks; expected ids from 1 to {_MOST_LANDMARKS}.")
    from_mm = frame.voxel_from_mm @ np.linalg.inv(to_scan)
    found = np.zeros(frame.shape, np.uint8)
    for landmark, at_mm in points.items():
        if not np.isfinite(at_mm).all():
            raise VolumeError(f"{path}: landmark {landmark} has a coordinate that is no number. Correct the file.")
        at = np.rint(apply_affine(from_mm, at_mm)).astype(int)
        if not ((at >= 1) & (at < np.array(frame.shape) - 1)).all():
            raise VolumeError(f"{path}: landmark {landmark} lies outside the frame; expected all within the brain.")
        found[tuple(slice(place - 1, place + 2) for place in at)] = landmark
    return found


def _landmarks_mm(path: Path) -> dict[int, Float64[ndarray, " 3"]]:
    if path.name.endswith((".csv", ".fcsv", ".json")):
        return dict(enumerate(read_points(path).ras_mm, start=1))
    ids, grid = read_label_map(path)
    present = [int(number) for number in np.unique(ids) if number]
    centres = center_of_mass(np.ones(ids.shape, np.uint8), ids, present) if present else []
    return {number: apply_affine(grid.affine, centre) for number, centre in zip(present, centres, strict=True)}
