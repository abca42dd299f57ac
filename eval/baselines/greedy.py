"""Greedy (picsl-greedy, Apache-2.0) as a reference method."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.eval.baselines.lps import voxels_from_lps
from lumirkit.eval.baselines.method import Baseline
from lumirkit.registration.grid import itk_geometry
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Greedy(Baseline):
    """Greedy diffeomorphic registration from the identity, without an affine step (Yushkevich et al., 2016).

    Images and field stay in memory: Greedy parses a command, in which names of files would have to be without blanks.
    The field is taken as it was computed, not rounded to the tenths of voxels that Greedy's files hold.
    """

    package: ClassVar[str | None] = "picsl-greedy"

    metric: str = "NCC"
    radius: tuple[int, int, int] = (2, 2, 2)
    """Radius of the metric's window in voxels."""
    iterations: tuple[int, ...] = (100, 50, 20)
    """Iterations a level, from coarse to fine. Three levels are shrunk 4, 2, 1 times."""
    seed: int = 1
    """Of the noise that Greedy adds to both images for the metric NCC; 0 would take the clock."""
    threads: int = field(default_factory=torch.get_num_threads)

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register with the geometry of the fixed image's header for both, as the challenge's fields assume.

        Raises:
            VolumeError: an image is constant, the two have no foreground in common, or Greedy gave up on them.
        """
        from picsl_greedy import Greedy3D
        from SimpleITK import GetArrayFromImage

        for image in (fixed, moving):
            if np.ptp(image.data) == 0:
                raise VolumeError(f"{image.name}: every voxel is {image.data.flat[0]:g}; expected a brain. Look at it.")
        pair = f"{fixed.name} and {moving.name}"
        if not np.any((fixed.data != 0) & (moving.data != 0)):
            raise VolumeError(
                f"{pair}: no voxel is foreground in both; expected brains that overlap. Align them first."
            )
        greedy, said = Greedy3D(), io.StringIO()
        images = {name: _to_itk(image.data, fixed.affine) for name, image in (("fixed", fixed), ("moving", moving))}
        try:
            greedy.execute(self._command(), out=said, err=said, **images, warp=None)
        except RuntimeError as error:
            reason = " ".join(f"{said.getvalue()} {error}".split())
            raise VolumeError(f"{pair}: Greedy could not register them ({reason}). Look at both images.") from error
        disp_lps_mm = np.swapaxes(GetArrayFromImage(greedy["warp"]), 0, 2)
        if not np.isfinite(disp_lps_mm).all():
            raise VolumeError(
                f"{pair}: Greedy found displacements that are NaN or inf; expected finite ones. Look at both images."
            )
        return voxels_from_lps(disp_lps_mm, fixed.affine)

    def _command(self) -> str:
        radius, iterations = ("x".join(map(str, numbers)) for numbers in (self.radius, self.iterations))
        return (
            f"-d 3 -m {self.metric} {radius} -n {iterations} -seed {self.seed} -threads {self.threads} -V 0 -wp 0 "
            "-i fixed moving -o warp"
        )


def _to_itk(data: Float32[ndarray, "x y z"], affine: Float64[ndarray, "4 4"]) -> Any:
    """Make a SimpleITK image of an array with the geometry of a NIfTI affine, voxels to RAS mm."""
    from SimpleITK import GetImageFromArray

    image = GetImageFromArray(np.ascontiguousarray(data.T))
    origin, spacing, direction = itk_geometry(affine)
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image
