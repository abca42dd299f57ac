"""SyN of ANTs (antspyx, Apache-2.0) as a reference method."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.eval.baselines.ants_displacement import displacement_from_ants
from lumirkit.eval.baselines.method import Baseline
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class SyN(Baseline):
    """ANTs' symmetric normalisation from the identity, without an affine step (Avants et al., MedIA 2008)."""

    package: ClassVar[str | None] = "antspyx"

    metric: str = "mattes"
    metric_parameter: int = 32
    """Histogram bins of the metric "mattes", radius in voxels of "CC"."""
    iterations: tuple[int, ...] = (40, 20, 5)
    """Iterations a level, from coarse to fine. Three levels are shrunk 4, 2, 1 times, smoothed 2, 1, 0 voxels."""
    gradient_step: float = 0.2
    flow_sigma: float = 3.0
    total_sigma: float = 0.0

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register with the geometry of the fixed image's header for both, as the challenge's fields assume.

        Raises:
            VolumeError: ANTs gave up on the pair.
        """
        import ants

        fixed_image, moving_image = (to_ants(image.data, fixed.affine) for image in (fixed, moving))
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = ants.registration(
                    fixed_image,
                    moving_image,
                    type_of_transform="SyNOnly",
                    initial_transform="Identity",  # the default would align the centres of mass
                    outprefix=f"{folder}/syn_",
                    syn_metric=self.metric,
                    syn_sampling=self.metric_parameter,
                    reg_iterations=self.iterations,
                    grad_step=self.gradient_step,
                    flow_sigma=self.flow_sigma,
                    total_sigma=self.total_sigma,
                )
            except RuntimeError as error:
                raise VolumeError(
                    f"{fixed.name} and {moving.name}: ANTs could not register them ({error}). Look at both images."
                ) from error
            return displacement_from_ants(fixed_image, fixed.affine, result["fwdtransforms"])
