"""Which tensors the compiled kernels serve, and which kernels those are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from lumirkit.registration.kernels import cpu

_DTYPES = (torch.float32, torch.float64)
_enabled = True

gpu_verdicts: dict[tuple[torch.device, torch.dtype], bool] = {}
"""Whether the kernels reproduced plain torch on a GPU in a dtype, where that has been tried (`registration.trust`)."""


class Geometry(Protocol):
    """The geometry kernels of one kind of device.

    Volumes are (batch, channel, X, Y, Z), fields (batch, 3, X, Y, Z) in voxels, all of one dtype and device; results
    carry no autograd history.
    """

    def sample(self, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
        """Compute volume(x + disp(x)), and add disp(x) if `add_disp`.

        Beyond the grid lies 0 if `zeros`, else the nearest border voxel.
        """

    def grad_volume(self, grad_output: Tensor, disp_vox: Tensor, zeros: bool) -> Tensor:
        """Compute the gradient of `sample` with respect to the volume: each voxel's goes back to where it was read."""

    def grad_disp(self, grad_output: Tensor, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
        """Compute the gradient of `sample` with respect to the field."""

    def invert(self, disp_vox: Tensor, tolerance: float, most_steps: int, smallest_determinant: float) -> Tensor:
        """Find the field v that solves v + u(x + v) = 0, to a residual of `tolerance` voxels."""

    def transposed_solve(self, disp_vox: Tensor, inverse_vox: Tensor, grad_output: Tensor) -> Tensor:
        """Compute -(I + J(x + v))^-T g at every voxel: v is the inverse of the field, J its slopes, g `grad_output`."""


def kernels_serve(*tensors: Tensor) -> bool:
    """Whether compiled kernels compute on these tensors: all on the CPU, all of one floating dtype they know."""
    return _enabled and _all_of_one_dtype_on("cpu", tensors)


def geometry_serves(*tensors: Tensor) -> bool:
    """Whether the kernels of `Geometry` compute on these tensors: on the CPU as `kernels_serve`, or on one NVIDIA GPU.

    On a GPU they serve once `registration.trust.try_kernels` has found that they reproduce plain torch there.
    """
    if kernels_serve(*tensors):
        return True
    if not _enabled or not _all_of_one_dtype_on("cuda", tensors) or len({tensor.device for tensor in tensors}) > 1:
        return False
    return gpu_verdicts.get((tensors[0].device, tensors[0].dtype), False)


def geometry_of(tensor: Tensor) -> Geometry:
    """The geometry kernels of a tensor's device, which the caller has found to serve (`geometry_serves`)."""
    if tensor.device.type == "cpu":
        return cpu
    from lumirkit.registration.kernels import cuda  # numba.cuda may be missing, and only a GPU needs it

    return cuda


def _all_of_one_dtype_on(device_type: str, tensors: tuple[Tensor, ...]) -> bool:
    first = tensors[0].dtype
    return first in _DTYPES and all(tensor.device.type == device_type and tensor.dtype == first for tensor in tensors)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute with the plain torch versions inside this block, in every thread of the process."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
