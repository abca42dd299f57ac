"""ConvexAdam (convexAdam, Apache-2.0) as a reference method."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.eval.baselines.method import Baseline
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class ConvexAdam(Baseline):
    """Coupled convex optimisation on MIND features, then Adam (Siebert et al., MICCAI 2021 challenges).

    The settings are the package's own defaults, under its names. It computes in float32 on every device, because
    its default of float16 does not exist on a CPU.

    Fields come out slightly short, by one part in the number of half-resolution voxels along an axis (1.3 % of 80): the
    package scales displacements by n - 1 for a sampling that uses n. They are left so, being the published method.
    """

    package: ClassVar[str | None] = "convexAdam"

    mind_r: int = 1
    mind_d: int = 2
    lambda_weight: float = 1.25
    grid_sp: int = 6
    disp_hw: int = 4
    selected_niter: int = 80
    selected_smooth: int = 0
    grid_sp_adam: int = 2
    ic: bool = True
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register; the package's own convention is the challenge's, voxels in array-axis order on the fixed grid."""
        settings = asdict(self) | {"device": torch.device(self.device), "dtype": torch.float32}
        with warnings.catch_warnings():  # the import would silence all warnings of the process for good
            from convexAdam.convex_adam_MIND import convex_adam_pt

            warnings.simplefilter("ignore", UserWarning)  # grid_sample without align_corners, in the package's own code
            disp_vox = convex_adam_pt(torch.from_numpy(fixed.data), torch.from_numpy(moving.data), **settings)
        return disp_vox.astype(np.float32)
