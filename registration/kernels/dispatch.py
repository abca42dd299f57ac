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


class Geometry(Protocol):
    """The geometry kernels of one kind of device.

    Volumes are (batch, channel, X, Y, Z), fields (batch, 3, X, Y, Z) in voxels, all of one dtype and device; results
    carry no autograd history.
    """

    def sample(self, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
        """volume(x + disp(x)), beyond the grid 0 if `zeros`, else the border; plus disp(x) if `add_disp`."""

    def gradient_of_volume(self, gradient: Tensor, disp_vox: Tensor, zeros: bool) -> Tensor:
        """The gradient of a sampled volume, put back to where its values were read."""

    def gradient_of_disp(
        self, gradient: Tensor, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool
    ) -> Tensor:
        """The gradient of `sample` with respect to the field."""

    def invert(self, disp_vox: Tensor, tolerance: float, most_steps: int, smallest_determinant: float) -> Tensor:
        """The field v that solves v + u(x + v) = 0, to a residual of `tolerance` voxels."""

    def transposed_solve(self, disp_vox: Tensor, inverse_vox: Tensor, gradient: Tensor) -> Tensor:
        """-(I + J(x + v))^-T g for every voxel, with v the inverse of the field and J the slopes of the field."""


def kernels_serve(*tensors: Tensor) -> bool:
    """Whether compiled kernels compute on these tensors: all on the CPU, all of one floating dtype they know."""
    return _enabled and _all_of_one_dtype_on("cpu", tensors)


def geometry_serves(*tensors: Tensor) -> bool:
    """Whether sampling, composition and inversion have kernels here: as `kernels_serve`, or on one NVIDIA GPU.

    A GPU's kernels serve once they have reproduced plain torch on it, which is tried at their first use (`trust`).
    """
    if kernels_serve(*tensors):
        return True
    if not _enabled or not _all_of_one_dtype_on("cuda", tensors) or len({tensor.device for tensor in tensors}) > 1:
        return False
    from lumirkit.registration.kernels.trust import (
        trusted,  # it needs the plain versions, whose modules import this one
    )

    return trusted(tensors[0].device, tensors[0].dtype)


def geometry_of(tensor: Tensor) -> Geometry:
    """The geometry kernels for a tensor that `geometry_serves`."""
    if tensor.device.type == "cpu":
        return cpu
    from lumirkit.registration.kernels import cuda  # numba.cuda may be missing, and only a GPU needs it

    return cuda


def _all_of_one_dtype_on(device_type: str, tensors: tuple[Tensor, ...]) -> bool:
    first = tensors[0].dtype
    return first in _DTYPES and all(tensor.device.type == device_type and tensor.dtype == first for tensor in tensors)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute with the plain torch versions inside this block (of the whole process, not of one thread)."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
