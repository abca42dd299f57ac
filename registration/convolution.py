"""Convolutions in the number format of what they are given."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumirkit.registration.tensors import Features5d, Volume5d

_SMALL = 20480  # channels times x times y; the limit in torch's `ConvParams::use_mkldnn`


class Conv3d(nn.Conv3d):
    """A convolution in the dtype of its input, whatever the dtype its weights are kept in."""

    def forward(self, volume: Volume5d) -> Features5d:
        """Convolve a volume in its own dtype."""
        return convolve(volume, self.weight, self.bias, stride=self.stride, padding=self.padding)


def convolve(volume: Volume5d, weight: Tensor, bias: Tensor | None, **geometry: Any) -> Features5d:
    """Convolve as `torch.nn.functional.conv3d` does, in the dtype of the volume.

    Args:
        volume: the features, in channels_last_3d memory for speed.
        weight: kernels of any floating dtype; they are converted to that of the volume.
        bias: one number for each output channel, or None.
        geometry: `stride` and `padding`.
    """
    if _has_undefined_gradient(volume):
        return convolve(volume.float(), weight, bias, **geometry).to(volume.dtype)
    weight = weight.to(volume.dtype, memory_format=torch.channels_last_3d)
    bias = None if bias is None else bias.to(volume.dtype)
    if _is_kept_from_onednn(volume):
        return F.conv3d(torch.cat([volume, volume]), weight, bias, **geometry)[:1]
    return F.conv3d(volume, weight, bias, **geometry)


def _is_kept_from_onednn(volume: Volume5d) -> bool:
    """Whether torch would unfold a volume, on one core, rather than give it to oneDNN.

    It does so with one small float32 volume, which then takes ten times as long as a batch of two with oneDNN.
    """
    is_small = volume.shape[1:4].numel() <= _SMALL
    return len(volume) == 1 and is_small and volume.dtype is torch.float32 and volume.device.type == "cpu"


def _has_undefined_gradient(volume: Volume5d) -> bool:
    """Whether oneDNN 3.12 would leave the weights' gradient unset: in bfloat16 with two voxels along x it does."""
    on_cpu = volume.device.type == "cpu" and torch.is_grad_enabled()
    return on_cpu and volume.dtype is torch.bfloat16 and volume.shape[2] == 2
