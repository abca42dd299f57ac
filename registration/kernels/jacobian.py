"""Non-diffeomorphic volume on the CPU: all ten determinants of a voxel in one pass, and the sparse exact gradient.

The forward pass is plain IEEE arithmetic in the order of the plain torch version: the numbers are the same to the last
bit, and no determinant of exactly 0 becomes a fold by rounding.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumirkit.base.compiled import compiled, compiled_loops, compiled_point
from lumirkit.registration.tensors import DisplacementVox

_SLAB = 4  # planes whose folded voxels are differentiated one after the other; at least 2, see _differentiate

Fields = Float[ndarray, "batch 3 x y z"]
Field = Float[ndarray, "3 x y z"]
Volumes = Float[ndarray, "batch x-2 y-2 z-2"]
Row = Float[ndarray, " z-2"]
Tetrahedra = Int64[ndarray, "10 3 3"]
Line = tuple[Row, Row, Row]
Vector = tuple[float, float, float]


def fused_negative_volume(
    disp_vox: DisplacementVox, tetrahedra: Tetrahedra, divisor: float
) -> Float[Tensor, "batch x-2 y-2 z-2"]:
    """Sum of max(-determinant, 0) over the ten tetrahedra of each interior voxel, over `divisor`; differentiable.

    Args:
        disp_vox: displacement in voxels, float32 or float64, on the CPU, at least 3 voxels an axis; any strides.
        tetrahedra: `lumirkit.registration.jacobian.TETRAHEDRA`, whose determinants `_negative_row` writes out.
        divisor: the number that every sum is divided by.
    """
    return _NegativeVolume.apply(disp_vox, tetrahedra, divisor)  # type: ignore[no-untyped-call]


class _NegativeVolume(torch.autograd.Function):
    """The folded volume of a field, which alone is kept: the backward pass finds the folded voxels again."""

    @staticmethod
    def forward(ctx: Any, disp_vox: Tensor, tetrahedra: Tetrahedra, divisor: float) -> Tensor:
        ctx.save_for_backward(disp_vox)
        ctx.tetrahedra, ctx.divisor = tetrahedra, divisor
        batch, _, x, y, z = disp_vox.shape
        volume = disp_vox.new_empty((batch, x - 2, y - 2, z - 2))
        _add_up(_array(disp_vox), divisor, volume.numpy())
        return volume

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (disp_vox,) = ctx.saved_tensors
        grad_disp = torch.zeros(disp_vox.shape, dtype=disp_vox.dtype)
        fields, gradients = _array(disp_vox), _array(grad_output)
        for parity in (0, 1):
            _differentiate(fields, ctx.tetrahedra, ctx.divisor, parity, gradients, grad_disp.numpy())
        return grad_disp, None, None


def _array(tensor: Tensor) -> ndarray:
    return tensor.detach().contiguous().numpy()


@compiled
def _determinant(a: Vector, b: Vector, c: Vector) -> float:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = a, b, c
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)


@compiled
def _negative_part(a: Vector, b: Vector, c: Vector, zero: float) -> float:
    """Compute max(-determinant, 0); NaN stays NaN. `zero` has the dtype of the vectors, and gives it to the result."""
    determinant = _determinant(a, b, c)
    return zero if determinant >= 0 else -determinant


@compiled
def _line(field: Field, x: int, y: int, z: int) -> Line:
    """A row of the field from voxel z on, as long as the interior; contiguous, which vector instructions need."""
    end = z + field.shape[3] - 2
    return field[0, x, y, z:end], field[1, x, y, z:end], field[2, x, y, z:end]


@compiled
def _edge(to: Line, here: Line, z: int, x_step: float, y_step: float, z_step: float) -> Vector:
    """The vector between two transformed voxels; `step` is the vector between the voxels themselves."""
    return to[0][z] - here[0][z] + x_step, to[1][z] - here[1][z] + y_step, to[2][z] - here[2][z] + z_step


@compiled
def _negative_row(field: Field, x: int, y: int, divisor: float, volume: Row) -> None:
    """The volume of the interior voxels (x, y, 1), (x, y, 2) and so on."""
    zero, one = field.dtype.type(0), field.dtype.type(1)  # of the field's dtype, so that float32 stays float32
    here = _line(field, x, y, 1)
    at_px, at_mx = _line(field, x + 1, y, 1), _line(field, x - 1, y, 1)
    at_py, at_my = _line(field, x, y + 1, 1), _line(field, x, y - 1, 1)
    at_pz, at_mz = _line(field, x, y, 2), _line(field, x, y, 0)
    at_pxpy, at_mxmy = _line(field, x + 1, y + 1, 1), _line(field, x - 1, y - 1, 1)
    at_pypz, at_mymz = _line(field, x, y + 1, 2), _line(field, x, y - 1, 0)
    at_pxpz, at_mxmz = _line(field, x + 1, y, 2), _line(field, x - 1, y, 0)
    for z in range(volume.size):
        px, mx = _edge(at_px, here, z, one, zero, zero), _edge(at_mx, here, z, -one, zero, zero)
        py, my = _edge(at_py, here, z, zero, one, zero), _edge(at_my, here, z, zero, -one, zero)
        pz, mz = _edge(at_pz, here, z, zero, zero, one), _edge(at_mz, here, z, zero, zero, -one)
        pxpy, mxmy = _edge(at_pxpy, here, z, one, one, zero), _edge(at_mxmy, here, z, -one, -one, zero)
        pypz, mymz = _edge(at_pypz, here, z, zero, one, one), _edge(at_mymz, here, z, zero, -one, -one)
        pxpz, mxmz = _edge(at_pxpz, here, z, one, zero, one), _edge(at_mxmz, here, z, -one, zero, -one)
        total = _negative_part(px, py, pz, zero)
        total += _negative_part(px, mz, py, zero)
        total += _negative_part(px, pz, my, zero)
        total += _negative_part(px, my, mz, zero)
        total += _negative_part(mx, pz, py, zero)
        total += _negative_part(mx, py, mz, zero)
        total += _negative_part(mx, my, pz, zero)
        total += _negative_part(mx, mz, my, zero)
        total += _negative_part(mxmy, mxmz, mymz, zero)
        total += _negative_part(pxpy, pypz, pxpz, zero)
        volume[z] = total / field.dtype.type(divisor)


@compiled
def _volume_plane(field: Field, x: int, divisor: float, volume: Float[ndarray, "y-2 z-2"]) -> None:
    """The volume of the interior voxels of plane x."""
    for y in range(1, field.shape[2] - 1):
        _negative_row(field, x, y, divisor, volume[y - 1])


@compiled_loops
def _add_up(fields: Fields, divisor: float, volumes: Volumes) -> None:
    """The volume of all interior voxels."""
    planes = volumes.shape[1]
    for part in numba.prange(len(volumes) * planes):
        item, plane = divmod(np.int64(part), planes)
        _volume_plane(fields[item], plane + 1, divisor, volumes[item, plane])


@compiled
def _vertex_edge(field: Field, x: int, y: int, z: int, step: Int64[ndarray, " 3"]) -> Vector:
    """The vector between the transformed voxel and its transformed neighbour, equal to `_edge` to the last bit."""
    i, j, k = x + step[0], y + step[1], z + step[2]
    type_of = field.dtype.type
    return (
        field[0, i, j, k] - field[0, x, y, z] + type_of(step[0]),
        field[1, i, j, k] - field[1, x, y, z] + type_of(step[1]),
        field[2, i, j, k] - field[2, x, y, z] + type_of(step[2]),
    )


@compiled_point
def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled_point
def _pull(grad_field: Field, x: int, y: int, z: int, step: Int64[ndarray, " 3"], weight: float, along: Vector) -> None:
    """Move the end of an edge by `weight` times a vector, and its start the other way."""
    for axis in range(3):
        change = weight * along[axis]
        grad_field[axis, x + step[0], y + step[1], z + step[2]] += change
        grad_field[axis, x, y, z] -= change


@compiled
def _differentiate_voxel(
    field: Field, tetrahedra: Tetrahedra, x: int, y: int, z: int, weight: float, grad_field: Field
) -> None:
    """Add the gradient of `weight` times the volume of one voxel."""
    for t in range(len(tetrahedra)):
        steps = tetrahedra[t]
        a, b, c = (
            _vertex_edge(field, x, y, z, steps[0]),
            _vertex_edge(field, x, y, z, steps[1]),
            _vertex_edge(field, x, y, z, steps[2]),
        )
        if _determinant(a, b, c) >= 0:
            continue
        _pull(grad_field, x, y, z, steps[0], -weight, _cross(b, c))
        _pull(grad_field, x, y, z, steps[1], -weight, _cross(c, a))
        _pull(grad_field, x, y, z, steps[2], -weight, _cross(a, b))


@compiled
def _differentiate_plane(
    field: Field,
    tetrahedra: Tetrahedra,
    x: int,
    divisor: float,
    gradient: Float[ndarray, "y-2 z-2"],
    grad_field: Field,
) -> None:
    """Add the gradient of the volume of plane x, row by row; rows without folds cost what finding that out costs."""
    negative = np.empty(gradient.shape[1], field.dtype)
    for y in range(1, field.shape[2] - 1):
        _negative_row(field, x, y, 1, negative)
        folded = 0
        for i in range(negative.size):
            folded += negative[i] != 0
        if folded > 0:
            for i in range(negative.size):
                if negative[i] != 0:
                    _differentiate_voxel(field, tetrahedra, x, y, i + 1, gradient[y - 1, i] / divisor, grad_field)


@compiled_loops
def _differentiate(
    fields: Fields, tetrahedra: Tetrahedra, divisor: float, parity: int, gradients: Volumes, grad_fields: Fields
) -> None:
    """Add the gradient of every second slab of planes, the even or the odd ones.

    A voxel's gradient reaches one plane further on either side. Two slabs of one parity never meet, so that threads
    add to different planes and the order of additions does not depend on their number.
    """
    planes = gradients.shape[1]
    slabs = (planes + _SLAB - 1) // _SLAB
    for part in numba.prange(len(gradients) * slabs):
        item, slab = divmod(np.int64(part), slabs)
        if slab % 2 == parity:
            for plane in range(slab * _SLAB, min((slab + 1) * _SLAB, planes)):
                _differentiate_plane(
                    fields[item], tetrahedra, plane + 1, divisor, gradients[item, plane], grad_fields[item]
                )
