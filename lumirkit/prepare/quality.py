"""Numbers of a prepared brain that tell whether a person should look at it, and the picture to look at."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from pydantic import BaseModel

from lumirkit.eval.pictures import plane
from lumirkit.registration.any_pair.frame import BRIGHTEST

HISTOGRAM_STEP = 5
_LITRES = (0.8, 2.0)  # of the brain as it was scanned
_LEAST_OVERLAP, _LEAST_SYMMETRY = 0.93, 0.93
_MOST_CUT = 0.01
_OUTLINES = ((255, 190, 0), (40, 220, 255))  # of the mask, and of the template


class Quality(BaseModel):
    """What is measured of a prepared image."""

    litres: float
    """Volume of the brain as it was scanned."""
    overlap: float
    """Dice of the brain and the template's."""
    symmetry: float
    """Dice of the brain and its mirror image."""
    cut: float
    """Share of the brain that lies beyond the frame."""
    histogram: list[int]
    """Numbers of brain voxels with intensities 0 to 4, 5 to 9, …"""

    @property
    def suspicions(self) -> list[str]:
        """What a person should look at."""
        low, high = _LITRES
        checks = {
            f"{self.litres:.2f} litres; most brains have {low} to {high}": low <= self.litres <= high,
            f"overlap with the template {self.overlap:.3f}; expected {_LEAST_OVERLAP}": self.overlap >= _LEAST_OVERLAP,
            f"symmetry {self.symmetry:.3f}; expected {_LEAST_SYMMETRY}": self.symmetry >= _LEAST_SYMMETRY,
            f"{100 * self.cut:.1f} % lie beyond the frame": self.cut <= _MOST_CUT,
        }
        return [said for said, is_right in checks.items() if not is_right]


def measured(
    voxels: UInt8[ndarray, "x y z"], template: Bool[ndarray, "x y z"], scanned_mm3: float, in_frame_mm3: float
) -> Quality:
    """Measure a prepared image.

    Args:
        template: the voxels of the template's brain.
        scanned_mm3: the volume of the brain as it was scanned.
        in_frame_mm3: the same after the affine, with what lies beyond the frame; a voxel of the frame is 1 mm3.
    """
    brain = voxels > 0
    mirrored = _mirrored(brain)
    edges = np.arange(0, BRIGHTEST + HISTOGRAM_STEP + 1, HISTOGRAM_STEP)
    return Quality(
        litres=round(scanned_mm3 / 1e6, 4),
        overlap=round(_dice(brain, template), 4),
        symmetry=round(_dice(brain, mirrored), 4),
        cut=round(max(0.0, 1 - np.count_nonzero(brain) / in_frame_mm3), 4),
        histogram=[int(count) for count in np.histogram(voxels[brain], edges)[0]],
    )


def picture(
    head: Float32[ndarray, "x y z"], brain: Bool[ndarray, "x y z"], template: Bool[ndarray, "x y z"]
) -> UInt8[ndarray, "height width 3"]:
    """The three middle planes of a head beside each other: sagittal, coronal, axial, with outlines over them.

    Args:
        head: intensities, of which 255 is drawn white.
    """
    middle = [int(np.median(np.nonzero(brain)[axis])) for axis in range(3)]
    height = max(brain.shape[1], brain.shape[2])
    return np.concatenate(
        [_drawn(head, brain, template, axis, middle[axis], height) for axis in range(3)],
        axis=1,
    )


def _drawn(
    head: Float32[ndarray, "x y z"],
    brain: Bool[ndarray, "x y z"],
    template: Bool[ndarray, "x y z"],
    axis: int,
    index: int,
    height: int,
) -> UInt8[ndarray, "height width 3"]:
    grey = np.clip(plane(head, axis, index), 0, BRIGHTEST).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    for inside, colour in zip((template, brain), _OUTLINES[::-1], strict=True):
        pixels[_outline(plane(inside, axis, index))] = colour
    above = (height - len(pixels)) // 2
    padded = np.pad(pixels[::-1], ((above, height - len(pixels) - above), (0, 0), (0, 0)))  # images begin at the top
    return padded


def _outline(inside: Bool[ndarray, "rows columns"]) -> Bool[ndarray, "rows columns"]:
    """Pixels outside, beside one that is inside."""
    wide = np.pad(inside, 1)
    beside = wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return beside & ~inside


def _mirrored(brain: Bool[ndarray, "x y z"]) -> Bool[ndarray, "x y z"]:
    """The brain mirrored in the plane through its own centre."""
    across = brain.sum(axis=(1, 2))
    if not across.any():
        return brain
    centre = float(np.average(np.arange(len(across)), weights=across))
    return np.roll(brain[::-1], round(2 * centre - (len(across) - 1)), axis=0)


def _dice(one: Bool[ndarray, "x y z"], other: Bool[ndarray, "x y z"]) -> float:
    both, all_voxels = int(np.count_nonzero(one & other)), int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * both / max(1, all_voxels)
