"""Folding of a displacement field, measured by the tetrahedra around each voxel that it turns inside out.

Around every interior voxel the grid is cut in two ways into five tetrahedra; a field is a digital diffeomorphism where
all ten keep their orientation. Source: Liu et al. 2024, "On Finite Difference Jacobian Computation in Deformable
Image Registration", IJCV 132. The training loss and the score both call `non_diffeomorphic_volume`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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

_CUTTINGS = 2  # both cuttings fill the same space, so each counts half
_DETERMINANT_PER_VOLUME = 6  # a determinant is six times the volume of its tetrahedron


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
    return (_determinant(disp_vox, tetrahedron) for tetrahedron in TETRAHEDRA)


def non_diffeomorphic_volume(disp_vox: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, "batch x-2 y-2 z-2"]:
    """Measure the volume, in voxels, that id + disp_vox turns inside out around each interior voxel [1:-1, 1:-1, 1:-1].

    It is differentiable, and exactly 0 where nothing folds. The backward pass computes the determinants again instead
    of keeping them.

    Args:
        disp_vox: displacement in voxels, array-axis order; any floating dtype, which is the dtype of the result.

    Raises:
        ValueError: the shape is not (batch, 3, X, Y, Z) with 3 voxels or more along each axis, or the dtype no float.
    """
    _check(disp_vox)
    if kernels_serve(disp_vox):
        return fused_negative_volume(disp_vox, np.array(TETRAHEDRA), _CUTTINGS * _DETERMINANT_PER_VOLUME)
    return _plain_volume(disp_vox)


def _plain_volume(disp_vox: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, "batch x-2 y-2 z-2"]:
    """Add up one determinant at a time; with gradients each is computed again in the backward pass."""
    recompute = torch.is_grad_enabled() and disp_vox.requires_grad
    volume = torch.zeros_like(_neighbour(disp_vox, (0, 0, 0))[:, 0])
    for tetrahedron in TETRAHEDRA:
        if recompute:
            negative = checkpoint(_negative_part, disp_vox, tetrahedron, use_reentrant=False, preserve_rng_state=False)
        else:
            negative = _negative_part(disp_vox, tetrahedron)
        volume = volume + negative
    return volume / (_CUTTINGS * _DETERMINANT_PER_VOLUME)


def _negative_part(disp_vox: Tensor, tetrahedron: Tetrahedron) -> Tensor:
    return torch.relu(-_determinant(disp_vox, tetrahedron))


def _determinant(disp_vox: Tensor, tetrahedron: Tetrahedron) -> Tensor:
    """The triple product of the transformed tetrahedron's three edges, six times its signed volume."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (_edge(disp_vox, offset) for offset in tetrahedron)
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)


def _edge(disp_vox: Tensor, offset: Offset) -> tuple[Tensor, Tensor, Tensor]:
    """The components of the vector from the transformed voxel to its transformed neighbour."""
    # The step of the identity is added to the difference of displacements: coordinates never enter, nor their rounding.
    difference = _neighbour(disp_vox, offset) - _neighbour(disp_vox, (0, 0, 0))
    x, y, z = (difference[:, axis] + step if step else difference[:, axis] for axis, step in enumerate(offset))
    return x, y, z


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
