"""The pointwise inverse of id + u, row by row: all voxels of a row along z take their Newton steps together."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from lumirkit.base.compiled import compiled_loops, compiled_point
from lumirkit.registration.kernels.interpolation import axis_weights
from lumirkit.registration.kernels.sampling import corner_steps

Array = np.ndarray[Any, Any]
Real = Any
Three = tuple[Any, Any, Any]


@compiled_point
def value_and_slopes(
    u: Array, k: np.uint32, steps: tuple[np.uint32, np.uint32, np.uint32], fx: Real, fy: Real, fz: Real
) -> tuple[Real, Real, Real, Real]:
    """The value of one component, and its derivatives along x, y, z, at the fractions fx, fy, fz of the cell at `k`."""
    sx, sy, sz = steps
    v000, v001, v010, v011 = u[k], u[k + sz], u[k + sy], u[k + sy + sz]
    k += sx
    v100, v101, v110, v111 = u[k], u[k + sz], u[k + sy], u[k + sy + sz]
    x00, x01, x10, x11 = v100 - v000, v101 - v001, v110 - v010, v111 - v011
    e00, e01, e10, e11 = v000 + fx * x00, v001 + fx * x01, v010 + fx * x10, v011 + fx * x11
    y0, y1 = e10 - e00, e11 - e01
    face0, face1 = e00 + fy * y0, e01 + fy * y1
    slope_z = face1 - face0
    slope_y = y0 + fz * (y1 - y0)
    x0, x1 = x00 + fy * (x10 - x00), x01 + fy * (x11 - x01)
    return face0 + fz * slope_z, x0 + fz * (x1 - x0), slope_y, slope_z


@compiled_point
def cross(a: Three, b: Three) -> Three:
    """The cross product of a and b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled_point
def dot(a: Three, b: Three) -> Real:
    """The scalar product of a and b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled_point
def value_and_matrix(
    fields: Three, shape: tuple[int, int, int], ticks: Array, px: Real, py: Real, pz: Real
) -> tuple[Three, Three, Three, Three]:
    """The value of u at a point and the columns of I + J there; beyond the grid u is constant along the axis left."""
    one, zero = ticks[1], ticks[0]
    size_x, size_y, size_z = shape
    cx, _, fx = axis_weights(px, ticks[size_x - 1], one, False)
    cy, _, fy = axis_weights(py, ticks[size_y - 1], one, False)
    cz, _, fz = axis_weights(pz, ticks[size_z - 1], one, False)
    k = np.uint32((np.int32(cx) * np.int32(size_y) + np.int32(cy)) * np.int32(size_z) + np.int32(cz))
    steps = corner_steps(shape)
    u0, a0, b0, c0 = value_and_slopes(fields[0], k, steps, fx, fy, fz)
    u1, a1, b1, c1 = value_and_slopes(fields[1], k, steps, fx, fy, fz)
    u2, a2, b2, c2 = value_and_slopes(fields[2], k, steps, fx, fy, fz)
    mx = one if cx + fx == px else zero
    my = one if cy + fy == py else zero
    mz = one if cz + fz == pz else zero
    return (
        (u0, u1, u2),
        (one + mx * a0, mx * a1, mx * a2),
        (my * b0, one + my * b1, my * b2),
        (mz * c0, mz * c1, one + mz * c2),
    )


@compiled_loops
def invert(disp: Array, ticks: Array, tolerance: Real, most_steps: int, smallest_determinant: Real, out: Array) -> None:
    """Solve v + u(x + v) = 0 for each voxel.

    The steps are those of the plain version: a Newton step that does not shrink the largest component of the residual
    is replaced by the fixed-point step from the best solution so far.
    """
    batch, _, size_x, size_y, size_z = disp.shape
    shape = (size_x, size_y, size_z)
    one, zero = ticks[1], ticks[0]
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        fields = disp[b, 0].ravel(), disp[b, 1].ravel(), disp[b, 2].ravel()
        v0, v1, v2, f0, f1, f2, best = np.empty((7, size_z), disp.dtype)
        for y in range(size_y):
            b0, b1, b2 = out[b, 0, x, y], out[b, 1, x, y], out[b, 2, x, y]
            for z in range(size_z):
                v0[z], v1[z], v2[z] = -disp[b, 0, x, y, z], -disp[b, 1, x, y, z], -disp[b, 2, x, y, z]
                b0[z], b1[z], b2[z] = v0[z], v1[z], v2[z]
                f0[z], f1[z], f2[z] = v0[z], v1[z], v2[z]
                best[z] = np.inf
            for _ in range(most_steps):
                worst = zero
                for z in range(size_z):
                    v = v0[z], v1[z], v2[z]
                    px, py, pz = ticks[x] + v[0], ticks[y] + v[1], ticks[z] + v[2]
                    u, a, c, e = value_and_matrix(fields, shape, ticks, px, py, pz)
                    r = v[0] + u[0], v[1] + u[1], v[2] + u[2]
                    m, n, o = cross(c, e), cross(e, a), cross(a, c)
                    determinant = dot(a, m)
                    size = max(abs(r[0]), max(abs(r[1]), abs(r[2])))
                    improved = size < best[z]
                    best[z] = size if improved else best[z]
                    b0[z] = v[0] if improved else b0[z]
                    f0[z] = v[0] - r[0] if improved else f0[z]
                    b1[z] = v[1] if improved else b1[z]
                    f1[z] = v[1] - r[1] if improved else f1[z]
                    b2[z] = v[2] if improved else b2[z]
                    f2[z] = v[2] - r[2] if improved else f2[z]
                    newton = improved & (determinant > smallest_determinant)
                    scale = one / (determinant if newton else one)
                    v0[z] = v[0] - scale * dot(m, r) if newton else f0[z]
                    v1[z] = v[1] - scale * dot(n, r) if newton else f1[z]
                    v2[z] = v[2] - scale * dot(o, r) if newton else f2[z]
                    worst = best[z] if best[z] > worst else worst
                if worst <= tolerance:
                    break


@compiled_loops
def transposed_solve(disp: Array, inverse: Array, grad_output: Array, ticks: Array, out: Array) -> None:
    """Compute -(I + J(x + v))^-T g at every voxel: v is the inverse of the field, J its slopes, g `grad_output`."""
    batch, _, size_x, size_y, size_z = disp.shape
    shape = (size_x, size_y, size_z)
    for plane in numba.prange(batch * size_x):
        b, x = plane // size_x, plane % size_x
        fields = disp[b, 0].ravel(), disp[b, 1].ravel(), disp[b, 2].ravel()
        for y in range(size_y):
            v0, v1, v2 = inverse[b, 0, x, y], inverse[b, 1, x, y], inverse[b, 2, x, y]
            g0, g1, g2 = grad_output[b, 0, x, y], grad_output[b, 1, x, y], grad_output[b, 2, x, y]
            w0, w1, w2 = out[b, 0, x, y], out[b, 1, x, y], out[b, 2, x, y]
            for z in range(size_z):
                px, py, pz = ticks[x] + v0[z], ticks[y] + v1[z], ticks[z] + v2[z]
                _, a, c, e = value_and_matrix(fields, shape, ticks, px, py, pz)
                m, n, o = cross(c, e), cross(e, a), cross(a, c)
                scale = -ticks[1] / dot(a, m)
                w0[z] = scale * (m[0] * g0[z] + n[0] * g1[z] + o[0] * g2[z])
                w1[z] = scale * (m[1] * g0[z] + n[1] * g1[z] + o[1] * g2[z])
                w2[z] = scale * (m[2] * g0[z] + n[2] * g1[z] + o[2] * g2[z])
