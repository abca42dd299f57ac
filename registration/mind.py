"""Modality independent neighbourhood descriptor: the input transform that makes T1w and T2w look alike.

Source: Heinrich et al., "MIND", Medical Image Analysis 2012; neighbourhood and sigma of Honkamaa & Marttinen 2025.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.kernels.mind import fused_mind
from lumirkit.registration.smoothing import gaussian_smooth, gaussian_weights
from lumirkit.registration.tensors import Volume5d

CHANNELS = 6
SIGMA_VOX = 0.5
_RADIUS = 1  # a Gaussian of sigma 0.5 has 99.9 % of its mass within one voxel per axis
_VARIANCE_FLOOR = 1e-3  # share of the image's mean variance, as in the public MIND code, so that scaling cancels


def mind(image: Float[Tensor, "batch 1 x y z"], sigma_vox: float = SIGMA_VOX) -> Float[Tensor, "batch 6 x y z"]:
    """Compute MIND_r = exp(-D_r / V): D_r is the Gaussian-weighted patch distance to the neighbour r, V the six's mean.

    V is kept above a thousandth of its mean over the image, so that regions without contrast give 1 in all channels
    instead of amplified noise. The result, in (0, 1], does not change under a * image + b for any a != 0.

    Args:
        image: intensities of any range, in any floating dtype, which is the dtype of the result.
        sigma_vox: standard deviation of the patch weights in voxels; the patch has an edge of 3 voxels.

    Returns:
        One channel for each neighbour, in the order x - 1, x + 1, y - 1, y + 1, z - 1, z + 1. Where no gradient is
        asked for, the kernels give it the memory format channels_last_3d.

    Raises:
        ValueError: the image has more than one channel.
    """
    if image.shape[1] != 1:
        raise ValueError(f"mind: the image has shape {tuple(image.shape)}; expected one channel, (batch, 1, X, Y, Z)")
    differentiated = image.requires_grad and torch.is_grad_enabled()
    if kernels_serve(image) and not differentiated:
        return fused_mind(image, gaussian_weights(sigma_vox, _RADIUS), _VARIANCE_FLOOR)
    return _plain_mind(image, sigma_vox)


def _plain_mind(image: Float[Tensor, "batch 1 x y z"], sigma_vox: float) -> Float[Tensor, "batch 6 x y z"]:
    distance = gaussian_smooth(_squared_differences(image), sigma_vox, _RADIUS)
    variance = distance.mean(dim=1, keepdim=True)
    floor = _VARIANCE_FLOOR * variance.mean(dim=(2, 3, 4), keepdim=True)
    smallest = torch.finfo(image.dtype).tiny  # an image of one value: 0 / tiny = 0, descriptor 1
    return torch.exp(-distance / variance.maximum(floor).clamp(min=smallest))


def _squared_differences(image: Volume5d) -> Float[Tensor, "batch 6 x y z"]:
    """Compute (I(x) - I(x + r))^2 for the six neighbours r; the image continues with its border values."""
    padded = F.pad(image, [1] * 6, mode="replicate")
    inner = slice(1, -1)
    channels = []
    for axis in range(3):
        for neighbour in (slice(0, -2), slice(2, None)):
            window = [inner] * 3
            window[axis] = neighbour
            channels.append((image - padded[:, :, window[0], window[1], window[2]]) ** 2)
    return torch.cat(channels, dim=1)
