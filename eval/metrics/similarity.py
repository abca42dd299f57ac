"""Similarity of the fixed and the warped moving image inside the brain: SSIM and NCC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from numpy import ndarray

from lumirkit.registration.ssim import local_ssim
from lumirkit.registration.warp import sample

_WINDOW = 11
_PLANES = 32  # of a slab
_CONSTANT = 1e-9  # of the intensities: what interpolation leaves of a constant image by rounding


@dataclass(frozen=True)
class Similarity:
    """SSIM and NCC of a pair; `causes` say why the NCC is NaN."""

    ssim: float
    ncc: float
    causes: tuple[str, ...] = ()


def measure_similarity(
    fixed: Float32[ndarray, "x y z"], moving: Float32[ndarray, "x y z"], disp_vox: Float[ndarray, "x y z 3"]
) -> Similarity:
    """Compare the fixed image with the moving one, warped linearly (0 outside), in float64 where fixed > 0.

    SSIM is the mean over the Gaussian windows (11 voxels, sigma 1.5) around those voxels, for the range of the whole
    fixed image; NCC is Pearson's correlation coefficient of all those voxels together, NaN where an image is constant.

    Args:
        fixed: on the fixed grid.
        moving: on the same grid.
        disp_vox: displacement in voxels, in array-axis order.

    Raises:
        ValueError: no voxel of the fixed image is above 0.
    """
    brain = fixed > 0
    if not brain.any():
        raise ValueError("no voxel is above 0; expected a brain on zero background. Check the image.")
    warped = warp_image(moving, disp_vox)
    ncc, causes = _correlation(fixed[brain].astype(np.float64), warped[brain])
    # An image that is the same everywhere differs from the background beyond its grid by its own value.
    data_range = float(np.ptp(fixed)) or float(fixed.max())
    return Similarity(_mean_ssim(fixed, warped, brain, data_range), ncc, causes)


def warp_image(moving: Float32[ndarray, "x y z"], disp_vox: Float[ndarray, "x y z 3"]) -> Float64[ndarray, "x y z"]:
    """Linear pull-back in float64: warped(p) = moving(p + disp_vox(p)), 0 outside the moving image."""
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0), dtype=np.float64))[None]
    image = torch.from_numpy(np.ascontiguousarray(moving, dtype=np.float64))[None, None]
    return sample(image, field, "zeros")[0, 0].numpy()


def _correlation(a: Float64[ndarray, " n"], b: Float64[ndarray, " n"]) -> tuple[float, tuple[str, ...]]:
    """Pearson's correlation coefficient of the voxels inside; NaN, with the reason, where one image is constant."""
    names = {"the fixed image": a, "the warped moving image": b}
    constant = [name for name, values in names.items() if np.ptp(values) <= _CONSTANT * np.abs(values).max()]
    if constant:
        return float("nan"), tuple(f"{name} is constant inside the brain" for name in constant)
    p, q = a - a.mean(), b - b.mean()
    return float(p @ q / np.sqrt((p @ p) * (q @ q))), ()


def _mean_ssim(
    fixed: Float32[ndarray, "x y z"],
    warped: Float64[ndarray, "x y z"],
    brain: Bool[ndarray, "x y z"],
    data_range: float,
) -> float:
    """Mean SSIM over the brain, slab by slab, so that memory stays small."""
    reach, total = _WINDOW // 2, 0.0
    (first, stop), *across = (np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3))
    around = [slice(max(low - reach, 0), high + reach + 1) for low, high in across]
    for start in range(first, stop + 1, _PLANES):
        before = min(reach, start)
        slab = slice(start - before, start + _PLANES + reach), *around
        mask = brain[slab].copy()
        mask[:before] = mask[before + _PLANES :] = False
        if mask.any():
            a, b, inside = (torch.from_numpy(np.array(each))[None, None] for each in (fixed[slab], warped[slab], mask))
            total += int(mask.sum()) * float(local_ssim(a.double(), b, data_range, _WINDOW, inside))
    return total / int(brain.sum())
