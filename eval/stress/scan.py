"""A brain with its label map, which disturbances change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32
from nibabel.affines import voxel_sizes
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.volume import Volume

_BRIGHTEST_PERCENTILE = 99.8  # what becomes INTENSITY_MAX, as in the challenge's images
_DARKEST = 1.0  # what shows brain differs from the background


@dataclass(frozen=True)
class Scan:
    """A skull-stripped image, 0 outside the brain and 1…255 in it, and its label map on the same grid."""

    image: Volume
    labels: Int32[ndarray, "x y z"]

    def __post_init__(self) -> None:
        """Check that strengths, which are shares of 0…255, mean something here.

        Raises:
            VolumeError: the intensities have another range.
        """
        low, high = self.image.data.min(), self.image.data.max()
        if not (low >= 0 and _DARKEST < high <= INTENSITY_MAX):
            raise VolumeError(
                f"{self.image.name}: found intensities from {low:g} to {high:g}; expected 0 outside the brain and "
                f"up to {INTENSITY_MAX:g} in it, as in the challenge. Scale them."
            )

    @property
    def brain(self) -> Bool[ndarray, "x y z"]:
        """The voxels that show brain."""
        return self.image.data > 0

    @property
    def voxel_mm(self) -> Float64[ndarray, " 3"]:
        """The size of a voxel along the axes of the array."""
        return voxel_sizes(self.image.affine)

    def showing(self, intensities: Float[ndarray, "x y z"], brain: Bool[ndarray, "x y z"] | None = None) -> Scan:
        """The same anatomy with other intensities, brought back to 1…255 in the brain and exactly 0 outside it.

        Where they are brighter than 255, all are scaled down as the challenge scales its images: the 99.8th percentile
        of the brain becomes 255.

        Args:
            brain: the voxels that show brain; None for those of this scan.

        Raises:
            VolumeError: no voxel shows brain.
        """
        brain = self.brain if brain is None else brain
        if not brain.any():
            raise VolumeError(f"{self.image.name}: nothing of the brain is left; expected some. Take less strength.")
        brightest = max(INTENSITY_MAX, float(np.percentile(intensities[brain], _BRIGHTEST_PERCENTILE)))
        scaled = np.clip(intensities * (INTENSITY_MAX / brightest), _DARKEST, INTENSITY_MAX)
        return replace(self, image=replace(self.image, data=np.where(brain, scaled, 0).astype(np.float32)))
