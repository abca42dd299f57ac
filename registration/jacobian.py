"""Folding of a displacement field, measured by the tetrahedra around each voxel that it turns inside out.

Around every interior voxel the grid is cut in two ways into five tetrahedra; a field is a digital diffeomorphism where
all ten keep their orientation. Source: Liu et al. 2024, "On Finite Difference Jacobian Computation in Deformable
Image Registration", IJCV 132. The training loss and the score both call `non_diffeomorphic_volume`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.kernels.jacobian import fused_negative_volume

Offset = tuple[int, int, int]
Tetrahedron = tuple[Offset, Offset, Offset]


def _corner(x: int, y: int, z: int) -> Tetrahedron:
    """The voxel and its neighbours at one step along each axis, in the order that makes the volume positive."""
    along_x, along_y, along_z = (x, 0, 0), (0, y, 0), (0, 0, z)
    return (along_x, along_y, along_z) if x * y * z > 0 else (along_x, along_z, along_y)


# Three vertices each, as offsets from the voxel; the fourth vertex is the voxel. Eight with one-sided differences
# (determinant 1 at the identity), then J*1 and J*2, the central ones of the two cuttings (determinant 2).
TETRAHEDRA: tuple[Tetrahedron, ...] = (
    *(_corner(x, y, z) for x, y, z in product((1, -1), repeat=3)),
    ((-1, -1, 0), (-1, 0, -1), (0, -1, -1)),
    ((1, 1, 0), (0, 1, 1), (1, 0, 1)),
)

SMALLEST_DETERMINANT = 1e-9
"""The determinant that stands for all below it in a logarithm."""

_TIMES_EACH = 2 * 6  # both cuttings fill the same space, and a determinant is six times the volume of its tetrahedron
_FOLDED_AT_ONCE = 1 << 18  # voxels whose gradient is computed together


def log_determinant(determinant: Float64[ndarray, "*any"]) -> Float64[ndarray, "*any"]:
    """The natural logarithm of determinants; those below 1e-9, folds among them, count as 1e-9."""
    return np.log(np.maximum(determinant, SMALLEST_DETERMINANT))


def jacobian_determinants(disp_vox: Float[Tensor, "batch 3 x y z"]) -> Iterator[Float[Tensor, "batch x-2 y-2 z-2"]]:
    """Yield the ten determinants of id + disp_vox at the interior voxels, in the order of `TETRAHEDRA`.

    Args:
        disp_vox: displacement in voxels, array-axis order; any floating dtype, which is the dtype of the result.

    Raises:
        ValueError: the shape is not (batch, 3, X, Y, Z) with 3 voxels or more along each axis, or the dtype no float.
    """
    _check(disp_vox)
    steps = torch.tensor(TETRAHEDRA, dtype=disp_vox.dtype, device=disp_vox.device)
    return (_determinant(disp_vox, *each) for each in zip(TETRAHEDRA, steps, strict=True))


def non_diffeomorphic_volume(disp_vox: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, "batch x-2 y-2 z-2"]:
    """Measure the volume, in voxels, that id + disp_vox turns inside out around each interior voxel [1:-1, 1:-1, 1:-1].

    It is differentiable, and exactly 0 where nothing folds. The backward pass looks at the folded voxels alone, as no
    other has a gradient.

    Args:
        disp_vox: displacement in voxels, array-axis order; any floating dtype, which is the dtype of the result.

    Raises:
        ValueError: the shape is not (batch, 3, X, Y, Z) with 3 voxels or more along each axis, or the dtype no float.
    """
    _check(disp_vox)
    if kernels_serve(disp_vox):
        return fused_negative_volume(disp_vox, np.array(TETRAHEDRA), _TIMES_EACH)
    return _NegativeVolume.apply(disp_vox)  # type: ignore[no-untyped-call]


class _NegativeVolume(torch.autograd.Function):
    """The folded volume in plain torch, in few operators: a GPU takes as long to be asked as to add three numbers."""

    @staticmethod
    def forward(ctx: Any, disp_vox: Tensor) -> Tensor:
        """Add up one determinant at a time, to keep no more of them."""
        volume = torch.zeros_like(_neighbour(disp_vox, (0, 0, 0))[:, 0])
        for determinant in jacobian_determinants(disp_vox):
            volume += torch.relu(-determinant)
        ctx.save_for_backward(disp_vox, volume)
        return volume / _TIMES_EACH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """Differentiate the tetrahedra around the folded voxels, and add the gradients of their vertices."""
        disp_vox, volume = ctx.saved_tensors
        vertices = torch.tensor([((0, 0, 0), *tetrahedron) for tetrahedron in TETRAHEDRA], device=disp_vox.device)
        steps = vertices[:, 1:].to(disp_vox.dtype)
        grad_disp = torch.zeros_like(disp_vox)
        for folded in volume.nonzero().split(_FOLDED_AT_ONCE):
            batch, centre = folded[:, :1, None], folded[:, None, None, 1:] + 1
            places = (batch, *(centre + vertices).unbind(dim=-1))
            with torch.enable_grad():
                moved = disp_vox.movedim(1, -1)[places].requires_grad_()
                a, b, c = (moved[:, :, 1:] - moved[:, :, :1] + steps).unbind(dim=2)
                determinants = _triple_product(a, b, c, dim=-1)
                negative = torch.relu(-determinants).sum(dim=1)
            (grad_vertices,) = torch.autograd.grad(negative, moved, grad_output[tuple(folded.T)] / _TIMES_EACH)
            grad_disp.movedim(1, -1).index_put_(places, grad_vertices, accumulate=True)
        return grad_disp


def _determinant(disp_vox: Tensor, tetrahedron: Tetrahedron, steps: Tensor) -> Tensor:
    """Six times the signed volume of the transformed tetrahedron, whose edges are `steps` at the identity."""
    # The step of the identity is added to the difference of displacements: coordinates never enter, nor their rounding.
    voxel = _neighbour(disp_vox, (0, 0, 0))
    a, b, c = (
        _neighbour(disp_vox, offset) - voxel + step[:, None, None, None]
        for offset, step in zip(tetrahedron, steps, strict=True)
    )
    return _triple_product(a, b, c, dim=1)


def _triple_product(a: Tensor, b: Tensor, c: Tensor, dim: int) -> Tensor:
    """The product a . (b x c) of vectors along an axis; unlike torch's own cross product, rounded after each step."""
    cross = b.roll(-1, dim) * c.roll(1, dim) - b.roll(1, dim) * c.roll(-1, dim)
    x, y, z = (a * cross).unbind(dim)
    return x + y + z


def _neighbour(disp_vox: Tensor, offset: Offset) -> Tensor:
    """The field at the interior voxels moved by `offset` (a view)."""
    x, y, z = (slice(1 + step, size - 1 + step) for step, size in zip(offset, disp_vox.shape[2:], strict=True))
    return disp_vox[:, :, x, y, z]


def _check(disp_vox: Tensor) -> None:
    shape = tuple(disp_vox.shape)
    if disp_vox.ndim != 5 or shape[1] != 3 or min(shape[2:]) < 3:
        raise ValueError(
            f"disp_vox has shape {shape}; expected (batch, 3, X, Y, Z) with at least 3 voxels along each axis. "
            "Move the components to axis 1."
        )
    if not disp_vox.is_floating_point():
        raise ValueError(f"disp_vox is {disp_vox.dtype}; expected a floating dtype. Convert it with .float().")
