"""Pointwise inverse of id + u, with the exact gradient of the implicit function theorem.

For every voxel x the inverse displacement v(x) solves v + u(x + v) = 0, and v(x) depends on no other v. Newton's
method with the Jacobian of the trilinear interpolant converges quadratically inside a cell; because the interpolant
has kinks between cells, a Newton step that does not shrink the residual is replaced by the fixed-point step
v <- -u(x + v), which shrinks it whenever u is a contraction (the spline bound guarantees that).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumirkit.registration.kernels.dispatch import geometry_serves
from lumirkit.registration.kernels.functions import Invert
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.warp import compose, sample

_CHUNK = 1 << 16  # voxels solved together: their working set stays in the processor's cache
_CHUNK_ON_GPU = 1 << 21  # a GPU is asked for few large operations; their working set takes 0.6 GB
_MAX_STEPS = 60
_SMALLEST_DETERMINANT = 1e-6
_ENOUGH = 100  # times the rounding; `invert_bent` looks at voxels that are worse once more
_DAMPED_STEPS = ((0.5, 50), (0.5, 100), (0.25, 200), (0.1, 500), (0.05, 1000))  # the share of a step, and how many

Points = Float[Tensor, "3 n"]


def invert(disp_vox: DisplacementVox) -> DisplacementVox:
    """Find the displacement v of the inverse of id + u, in voxels on the same grid; differentiable.

    The residual |v + u(x + v)| is at rounding level where u is a contraction. The field continues beyond the grid
    with its border values.

    Raises:
        ValueError: an axis has fewer than 2 voxels.
    """
    if min(disp_vox.shape[2:]) < 2:
        raise ValueError(f"invert: found a grid of {tuple(disp_vox.shape[2:])}; expected at least 2 voxels an axis")
    if geometry_serves(disp_vox):
        return inverted_by_kernels(disp_vox)
    return _PointwiseInverse.apply(disp_vox)  # type: ignore[no-untyped-call]


def inverted_by_kernels(disp_vox: DisplacementVox) -> DisplacementVox:
    """Do what `invert` does with the kernels of the field's device, without asking whether they serve.

    The field is not checked.
    """
    settings = _tolerance(disp_vox), _MAX_STEPS, _SMALLEST_DETERMINANT
    return Invert.apply(disp_vox, *settings)  # type: ignore[no-untyped-call]


def _tolerance(disp_vox: DisplacementVox) -> float:
    """The rounding of the coordinates themselves, in voxels."""
    return torch.finfo(disp_vox.dtype).eps * max(disp_vox.shape[2:])


def invert_bent(disp_vox: DisplacementVox) -> DisplacementVox:
    """Find what `invert` does for a field that bends more than a contraction, as fields of full size may; no gradient.

    Where `invert` does not arrive, damped steps v <- v - f (v + u(x + v)) come near the solution, with an ever smaller
    f, and Newton steps end there. Where the field folds there may be no solution; the best try is left.

    Raises:
        ValueError: an axis has fewer than 2 voxels.
    """
    disp_vox = disp_vox.detach()
    inverse_vox, enough = invert(disp_vox), _ENOUGH * _tolerance(disp_vox)
    sizes = compose(disp_vox, inverse_vox).abs().amax(dim=1).flatten(1)
    for field, found, size in zip(disp_vox, inverse_vox.flatten(2), sizes, strict=True):
        interpolant, places = _Interpolant(field), torch.nonzero(size > enough)[:, 0]
        found[:, places] = _solve_damped(interpolant, interpolant.voxel_positions(places), found[:, places], enough)
    return inverse_vox


def _residual_size(interpolant: _Interpolant, positions: Points, v: Points) -> Float[Tensor, " n"]:
    """The largest component of v + u(x + v)."""
    value, _ = interpolant.value_and_jacobian(positions + v)
    return (v + value).abs().amax(dim=0)


def _solve_damped(interpolant: _Interpolant, positions: Points, guess: Points, enough: float) -> Points:
    """Solve v + u(x + v) = 0 to a residual of `enough` from guesses that are not near the solution."""
    solution, best_size = guess.clone(), _residual_size(interpolant, positions, guess)
    for factor, steps in _DAMPED_STEPS:
        left = torch.nonzero(best_size > enough)[:, 0]
        if len(left) == 0:
            break
        v, at = solution[:, left], positions[:, left]
        for _ in range(steps):
            value, _ = interpolant.value_and_jacobian(at + v)
            v = v - factor * (v + value)
        v = _solve_voxels(interpolant, at, v, enough)
        size = _residual_size(interpolant, at, v)
        improved = size < best_size[left]
        solution[:, left[improved]], best_size[left[improved]] = v[:, improved], size[improved]
    return solution


class _PointwiseInverse(torch.autograd.Function):
    """The forward pass solves; the backward pass scatters -(I + J(x + v))^-T g with the interpolation's weights."""

    @staticmethod
    def forward(ctx: Any, disp_vox: Tensor) -> Tensor:
        inverse_vox = torch.stack([_solve(field) for field in disp_vox])
        ctx.save_for_backward(disp_vox, inverse_vox)
        return inverse_vox

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        disp_vox, inverse_vox = ctx.saved_tensors
        at_solution = torch.stack(
            [_transposed_solve(*fields) for fields in zip(disp_vox, inverse_vox, grad_output, strict=True)]
        )
        with torch.enable_grad():
            leaf = disp_vox.detach().requires_grad_()
            sampled = sample(leaf, inverse_vox)
        (grad_disp,) = torch.autograd.grad(sampled, leaf, -at_solution)
        return grad_disp


class _Interpolant:
    """The trilinear interpolant of one field, with its exact Jacobian, at arbitrary points."""

    def __init__(self, disp_vox: Float[Tensor, "3 x y z"]) -> None:
        self.shape = disp_vox.shape[1:]
        self.values: Points = disp_vox.flatten(1).contiguous()
        _, y, z = self.shape
        self._strides = (y * z, z, 1)
        self._last = torch.tensor(self.shape, device=disp_vox.device, dtype=disp_vox.dtype)[:, None] - 1

    def __len__(self) -> int:
        return self.values.shape[1]

    def voxel_positions(self, indices: Int64[Tensor, " n"]) -> Points:
        """The array coordinates of voxels by their flat indices."""
        y, z = self.shape[1:]
        return torch.stack([indices // (y * z), indices // z % y, indices % z]).to(self.values)

    def value_and_jacobian(self, points: Points) -> tuple[Points, list[Points]]:
        """The value of u at `points` and the columns du/dx, du/dy, du/dz; beyond the grid u is constant."""
        inside = torch.minimum(points.clamp(min=0), self._last)
        cell = torch.minimum(inside.floor(), self._last - 1)
        fx, fy, fz = inside - cell
        i, j, k = cell.nan_to_num().to(torch.int64)  # no number is no index, which a GPU does not survive
        base = i * self._strides[0] + j * self._strides[1] + k

        def corner(x: int, y: int, z: int) -> Points:
            sx, sy, sz = self._strides
            return self.values.index_select(1, base + (x * sx + y * sy + z * sz))

        on_edges, slope_x = {}, {}
        for y, z in ((0, 0), (0, 1), (1, 0), (1, 1)):
            low, high = corner(0, y, z), corner(1, y, z)
            slope_x[y, z] = high - low
            on_edges[y, z] = torch.addcmul(low, fx, slope_x[y, z])
        on_face, slope_y = {}, {}
        for z in (0, 1):
            slope_y[z] = on_edges[1, z] - on_edges[0, z]
            on_face[z] = torch.addcmul(on_edges[0, z], fy, slope_y[z])
        du_dz = on_face[1] - on_face[0]
        value = torch.addcmul(on_face[0], fz, du_dz)
        du_dy = torch.lerp(slope_y[0], slope_y[1], fz)
        du_dx = torch.lerp(
            torch.lerp(slope_x[0, 0], slope_x[1, 0], fy), torch.lerp(slope_x[0, 1], slope_x[1, 1], fy), fz
        )
        moves = (inside == points).to(points)
        return value, [column * moves[axis] for axis, column in enumerate((du_dx, du_dy, du_dz))]


def _cofactors(columns: list[Points]) -> tuple[list[Points], Float[Tensor, " n"]]:
    """The rows of det(A) * A^-1, and det(A), of A = I + [columns]."""
    for axis, column in enumerate(columns):
        column[axis] += 1
    a, b, c = columns
    rows = [_cross(b, c), _cross(c, a), _cross(a, b)]
    return rows, (a * rows[0]).sum(dim=0)


def _cross(a: Points, b: Points) -> Points:
    (a0, a1, a2), (b0, b1, b2) = a, b
    return torch.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def _solve(disp_vox: Float[Tensor, "3 x y z"]) -> Float[Tensor, "3 x y z"]:
    interpolant = _Interpolant(disp_vox)
    tolerance = _tolerance(disp_vox[None])
    solution = torch.empty_like(interpolant.values)
    for part in _chunks(interpolant):
        guess = -interpolant.values[:, part]
        solution[:, part] = _solve_voxels(interpolant, interpolant.voxel_positions(part), guess, tolerance)
    return solution.reshape(disp_vox.shape)


def _chunks(interpolant: _Interpolant) -> Iterator[Int64[Tensor, " n"]]:
    """The flat indices of all voxels, in parts that are solved together."""
    device = interpolant.values.device
    return iter(torch.arange(len(interpolant), device=device).split(_CHUNK if device.type == "cpu" else _CHUNK_ON_GPU))


def _solve_voxels(interpolant: _Interpolant, positions: Points, guess: Points, tolerance: float) -> Points:
    """Solve v + u(x + v) = 0 for the voxels at `positions`; converged ones leave the working set."""
    solution = guess.clone()
    unsolved = torch.arange(guess.shape[1], device=guess.device)
    v = best = fixed_point = guess
    best_size = torch.full_like(guess[0], torch.inf)
    for _ in range(_MAX_STEPS):
        value, columns = interpolant.value_and_jacobian(positions + v)
        residual = v + value
        size = residual.abs().amax(dim=0)
        improved = size < best_size
        best, best_size = torch.where(improved, v, best), torch.minimum(size, best_size)
        fixed_point = torch.where(improved, v - residual, fixed_point)
        left = torch.nonzero(best_size > tolerance)[:, 0]
        if len(left) < len(unsolved):
            solution[:, unsolved] = best
        if len(left) == 0:
            return solution
        v = torch.where(improved, _newton_step(v, residual, columns, fixed_point), fixed_point)
        if len(left) < len(unsolved):
            unsolved, best_size = unsolved[left], best_size[left]
            positions, v, best, fixed_point = (points[:, left] for points in (positions, v, best, fixed_point))
    solution[:, unsolved] = best
    return solution


def _newton_step(v: Points, residual: Points, columns: list[Points], otherwise: Points) -> Points:
    """Compute v - (I + J)^-1 residual, or `otherwise` where the interpolant folds and the step means nothing."""
    rows, determinant = _cofactors(columns)
    step = torch.stack([(row * residual).sum(dim=0) for row in rows]) / determinant
    return torch.where(determinant > _SMALLEST_DETERMINANT, v - step, otherwise)


def _transposed_solve(disp_vox: Tensor, inverse_vox: Tensor, grad_output: Tensor) -> Float[Tensor, "3 x y z"]:
    """Compute (I + J(x + v))^-T g for every voxel, with g the gradient with respect to v."""
    interpolant = _Interpolant(disp_vox)
    v, g = inverse_vox.flatten(1), grad_output.flatten(1)
    result = torch.empty_like(interpolant.values)
    for part in _chunks(interpolant):
        _, columns = interpolant.value_and_jacobian(interpolant.voxel_positions(part) + v[:, part])
        rows, determinant = _cofactors(columns)
        result[:, part] = sum(row * component for row, component in zip(rows, g[:, part], strict=True)) / determinant
    return result.reshape(disp_vox.shape)
