"""The geometry kernels on CPU tensors: `dispatch.Geometry`, computed by the loops of `sampling` and `inverse`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from lumirkit.registration.kernels import inverse, sampling
from lumirkit.registration.kernels.interpolation import ticks_for

Array = np.ndarray[Any, Any]


def as_array(tensor: Tensor) -> Array:
    """Give the tensor's memory as a numpy array, a view where it is contiguous; bfloat16 comes as its bits."""
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def slabs(batch: int) -> int:
    """The number of parts of a volume that tasks own, so that every thread has one."""
    return max(1, numba.get_num_threads() // batch)


def sample(volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    """Sample a volume; see `dispatch.Geometry`."""
    disp = as_array(disp_vox)
    out = torch.empty(volume.shape, dtype=volume.dtype)
    sampling.sample(as_array(volume), disp, ticks_for(disp), zeros, add_disp, out.numpy())
    return out


def grad_volume(grad_output: Tensor, disp_vox: Tensor, zeros: bool) -> Tensor:
    """Differentiate `sample` with respect to the volume; see `dispatch.Geometry`.

    The result is the same to the last bit whatever the number of threads.
    """
    g, disp = as_array(grad_output), as_array(disp_vox)
    ticks = ticks_for(disp)
    out = torch.zeros(grad_output.shape, dtype=grad_output.dtype)
    sampling.grad_volume(g, disp, ticks, zeros, sampling.planes_reached(disp, ticks), slabs(len(g)), out.numpy())
    return out


def grad_disp(grad_output: Tensor, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    """Differentiate `sample` with respect to the field; see `dispatch.Geometry`."""
    disp = as_array(disp_vox)
    out = torch.empty(disp_vox.shape, dtype=disp_vox.dtype)
    g, v = as_array(grad_output), as_array(volume)
    sampling.grad_disp(g, v, disp, ticks_for(disp), zeros, add_disp, out.numpy())
    return out


def invert(disp_vox: Tensor, tolerance: float, most_steps: int, smallest_determinant: float) -> Tensor:
    """Invert a field; see `dispatch.Geometry`."""
    disp = as_array(disp_vox)
    real = disp.dtype.type
    out = torch.empty(disp_vox.shape, dtype=disp_vox.dtype)
    inverse.invert(disp, ticks_for(disp), real(tolerance), most_steps, real(smallest_determinant), out.numpy())
    return out


def transposed_solve(disp_vox: Tensor, inverse_vox: Tensor, grad_output: Tensor) -> Tensor:
    """Solve for the gradient of the inverse; see `dispatch.Geometry`."""
    disp = as_array(disp_vox)
    out = torch.empty(disp_vox.shape, dtype=disp_vox.dtype)
    inverse.transposed_solve(disp, as_array(inverse_vox), as_array(grad_output), ticks_for(disp), out.numpy())
    return out
