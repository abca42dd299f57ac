"""Local normalised cross-correlation of two images: how well one is a linear function of the other, window by window.

Source: Avants et al., "Symmetric diffeomorphic image registration with cross-correlation", 2008; window and stabilising
constant of Honkamaa & Marttinen, MELBA 2024:026.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.kernels.ncc import fused_local_ncc
from lumirkit.registration.separable import AxisOperator, apply_along_axes
from lumirkit.registration.tensors import Volume5d

_EPSILON = 1e-5


def local_ncc(a: Volume5d, b: Volume5d, window: int) -> Float[Tensor, ""]:
    """The mean of the squared local correlation coefficient over all windows and channels, in [0, 1]; differentiable.

    Args:
        a: intensities of the order of 1 (the stabilising constant 1e-5 is absolute), any floating dtype.
        b: intensities of the shape and dtype of `a`.
        window: edge of the cubic window in voxels, odd; zero beyond the volume.

    Raises:
        ValueError: the shapes differ, or the window is even or not positive.
    """
    if a.shape != b.shape:
        raise ValueError(f"local_ncc: the images have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected one shape")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"local_ncc: the window has an edge of {window} voxels; expected an odd number from 1 on")
    if kernels_serve(a, b):
        return fused_local_ncc(a, b, window, _EPSILON)
    return _plain_local_ncc(a, b, window)


def _plain_local_ncc(a: Volume5d, b: Volume5d, window: int) -> Float[Tensor, ""]:
    operators = [_window_sum_operator(size, window) for size in a.shape[2:]]
    moments = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = apply_along_axes(moments, operators).split(a.shape[1], dim=1)
    count = window**3
    cross = sum_ab - sum_a * sum_b / count
    variance_a = sum_aa - sum_a**2 / count
    variance_b = sum_bb - sum_b**2 / count
    return (cross**2 / (variance_a * variance_b + _EPSILON)).mean()


@lru_cache(maxsize=64)
def _window_sum_operator(size: int, window: int) -> AxisOperator:
    index = torch.arange(size)
    return AxisOperator(((index[:, None] - index).abs() <= window // 2).double())
