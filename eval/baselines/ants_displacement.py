"""Transform files of ANTs as displacements in voxels."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from lumirkit.eval.baselines.lps import voxels_from_lps


def displacement_from_ants(
    fixed_image: Any, affine: NDArray[np.float64], transforms: Sequence[str]
) -> Float32[ndarray, "x y z 3"]:
    """Turn transform files of ANTs into one displacement in voxels of the fixed grid, in array-axis order.

    ANTs' transforms map points of the fixed image to the moving image in LPS mm; the list is composed by ANTs, warps
    and affines alike, the last one applied first.

    Args:
        fixed_image: ANTs image of the fixed grid, as `to_ants` makes it.
        affine: NIfTI affine of the fixed and the moving grid.
        transforms: files as `ants.registration` lists them in "fwdtransforms".
    """
    import ants

    with tempfile.TemporaryDirectory() as folder:
        composed = ants.apply_transforms(fixed_image, fixed_image, list(transforms), compose=f"{folder}/composed_")
        disp_lps_mm = ants.image_read(composed).numpy().astype(np.float64)
    return voxels_from_lps(disp_lps_mm, affine)
