"""Structural similarity of two images: how alike they are in brightness, contrast and structure, window by window.

Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004; its
Gaussian window in three dimensions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lumirkit.registration.smoothing import gaussian_smooth
from lumirkit.registration.tensors import Volume5d

_K1, _K2 = 0.01, 0.03
_SIGMA_OF_EDGE = 1.5 / 11


def local_ssim(
    a: Volume5d,
    b: Volume5d,
    data_range: float,
    window: int = 11,
    mask: Bool[Tensor, "#batch #channel x y z"] | None = None,
) -> Float[Tensor, ""]:
    """The mean structural similarity of all windows and channels, in [-1, 1], 1 for equal images; differentiable.

    The gradient is finite everywhere, in constant areas too: nothing is divided by less than the constants
    (0.01 data_range)^2 and (0.03 data_range)^2.

    Args:
        a: intensities in any floating dtype; beyond the volume lie its border values.
        b: intensities of the shape and dtype of `a`.
        data_range: the largest possible difference of two intensities, in their unit.
        window: edge of the window in voxels, odd; its Gaussian has a standard deviation of 1.5/11 of it.
        mask: voxels whose windows count; None for all.

    Raises:
        ValueError: the shapes differ, the window is even or not positive, the range is not a positive number, or the
            mask is empty.
    """
    if a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"local_ssim: the images have shapes {shapes}; expected one shape")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"local_ssim: the window has an edge of {window} voxels; expected an odd number from 1 on")
    if not 0 < data_range < math.inf:
        raise ValueError(f"local_ssim: the intensities have a range of {data_range}; expected a number above 0")
    values = _ssim_map(a, b, data_range, window)
    if mask is None:
        return values.mean()
    if not mask.any():
        raise ValueError("local_ssim: the mask is empty; expected at least one voxel")
    weights = mask.to(values).expand_as(values)
    return (values * weights).sum() / weights.sum()


def _ssim_map(a: Volume5d, b: Volume5d, data_range: float, window: int) -> Volume5d:
    """Compute the structural similarity of the window around every voxel."""
    # The two variances enter as their sum alone, so four local means suffice.
    moments = torch.cat([a, b, a * a + b * b, a * b], dim=1)
    mean_a, mean_b, mean_squares, mean_ab = gaussian_smooth(moments, _SIGMA_OF_EDGE * window, window // 2).split(
        a.shape[1], dim=1
    )
    squared_means, product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    brightness = (2 * product + c1) / (squared_means + c1)
    structure = (2 * (mean_ab - product) + c2) / (mean_squares - squared_means + c2)
    return brightness * structure
