"""Group normalisation and ReLU, the pair that follows every convolution of the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.kernels.functions import GroupNormRelu, normalised_relu
from lumirkit.registration.tensors import Volume5d


def group_norm_relu(
    volume: Volume5d, groups: int, weight: Float[Tensor, " channel"], bias: Float[Tensor, " channel"], epsilon: float
) -> Volume5d:
    """Compute relu(group_norm(volume)), with statistics in the dtype of `weight`.

    Args:
        volume: features of the dtype of `weight`, or in bfloat16. Without gradients the result may overwrite them.
        groups: the number of groups that the channels are normalised in.
        weight: the factor of each channel.
        bias: the summand of each channel.
        epsilon: what is added to the variances.
    """
    if _kernels_serve(volume, weight, bias):
        if torch.is_grad_enabled():
            return GroupNormRelu.apply(volume, groups, weight, bias, epsilon)  # type: ignore[no-untyped-call]
        normalised_relu(volume, groups, weight, bias, epsilon, out=volume)
        return volume
    if volume.dtype is weight.dtype or not torch.is_grad_enabled():
        return _plain_group_norm_relu(volume, groups, weight, bias, epsilon)
    # Autograd would keep two volumes in the dtype of `weight`, which are larger than what is given.
    return checkpoint(
        _plain_group_norm_relu, volume, groups, weight, bias, epsilon, use_reentrant=False, preserve_rng_state=False
    )


def _plain_group_norm_relu(volume: Volume5d, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Volume5d:
    normalised = F.group_norm(volume.to(weight.dtype), groups, weight, bias, epsilon)
    return F.relu(normalised, inplace=not torch.is_grad_enabled()).to(volume.dtype)


def _kernels_serve(volume: Volume5d, weight: Tensor, bias: Tensor) -> bool:
    in_order = volume.is_contiguous(memory_format=torch.channels_last_3d)
    same_device = volume.device == weight.device
    return in_order and same_device and volume.dtype in (weight.dtype, torch.bfloat16) and kernels_serve(weight, bias)
