"""Thin-plate splines through a lattice of control points: the smoothest field that has the values given there.

Source: Bookstein, "Principal warps", IEEE TPAMI 1989; in three dimensions the kernel is the distance r. Summing it
over 512 control points for each of a million voxels takes seconds. But r is, up to a constant, a sum of Gaussians with
negative weights, a Gaussian is a product along the axes, and so is the lattice: each axis is summed on its own. The
spline of that kernel passes through its control points and is exact for affine maps, as that of r is; between control
points the two differ by less than a thousandth of the displacements. Summing r on a few voxels only and interpolating
the field would be as quick, but off by a tenth of the displacements around control points, where the spline has kinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import dist, log, pi, prod, sqrt

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from lumirkit.registration.tensors import DisplacementVox

_WIDEST = 5  # width of the widest Gaussian in diagonals of the grid; the affine part takes up what wider ones add
_NARROWEST = 3e-4  # width of the narrowest Gaussian in distances of control points; it rounds the tip of r
_LOG_STEP = 0.4  # step of the widths' logarithms


def thin_plate_displacement(control_vox: Float[Tensor, "batch 3 i j k"], shape: Sequence[int]) -> DisplacementVox:
    """Evaluate the thin-plate spline through an even lattice of control points on the grid of `shape`.

    Args:
        control_vox: displacements in voxels; the corners of the lattice are the centres of the grid's corner voxels.
        shape: (X, Y, Z) of the grid.

    Returns:
        The displacement in voxels, in the dtype of `control_vox`.

    Raises:
        ValueError: the lattice or the grid has fewer than 2 points along an axis, which leaves no affine part.
    """
    lattice = tuple(control_vox.shape[2:])
    if min(*lattice, *shape) < 2:
        raise ValueError(
            f"thin_plate_displacement: found {lattice} control points for a grid of {tuple(shape)}; expected at least "
            "2 of each along every axis"
        )
    solution, along = _spline(lattice, tuple(shape))
    coefficients = torch.as_tensor(solution).to(control_vox.device) @ control_vox.flatten(2).mT.double()
    weights, affine = coefficients.to(control_vox.dtype).mT.split([prod(lattice), 4], dim=2)
    along_x, along_y, along_z = (torch.as_tensor(each).to(control_vox) for each in along)
    field = torch.einsum("bcijk,gzk->gbcijz", weights.unflatten(2, lattice), along_z)
    field = torch.einsum("gbcijz,gyj->gbciyz", field, along_y)
    field = torch.einsum("gbciyz,gxi->bcxyz", field, along_x)
    return field + _affine(affine, shape)


def _affine(coefficients: Float[Tensor, "batch 3 4"], shape: Sequence[int]) -> DisplacementVox:
    """Evaluate an affine field: a constant, and slopes along the axes around the middle of the grid."""
    field = coefficients[:, :, 0, None, None, None]
    for axis, size in enumerate(shape):
        view = [1] * 5
        view[2 + axis] = size
        position = torch.as_tensor(_centred(size, size)).to(coefficients).view(view)
        field = field + coefficients[:, :, 1 + axis, None, None, None] * position
    return field


@lru_cache(maxsize=8)
def _spline(
    lattice: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Float64[ndarray, "n_plus_4 n"], list[Float64[ndarray, "gaussians _size _points"]]]:
    """Solve for the spline once: it is linear in the displacements of its n control points.

    Returns:
        The matrix from n displacements to the weights of the kernel and the affine part, and along each axis the
        Gaussians between the grid and the lattice.
    """
    controls = [_centred(size, count) for size, count in zip(shape, lattice, strict=True)]
    spacing = min((size - 1) / (count - 1) for size, count in zip(shape, lattice, strict=True))
    exponents, weights = _gaussians(_NARROWEST * spacing, _WIDEST * dist((0, 0, 0), shape))
    between = [_along(exponents, points, points) for points in controls]
    kernel = np.einsum("g,gil,gjm,gkn->ijklmn", weights, *between, optimize=True)
    points = np.stack(np.meshgrid(*controls, indexing="ij"), axis=-1).reshape(-1, 3)
    n = len(points)
    system = np.zeros((n + 4, n + 4))
    system[:n, :n] = kernel.reshape(n, n)
    system[:n, n] = system[n, :n] = 1
    system[:n, n + 1 :], system[n + 1 :, :n] = points, points.T
    to_grid = [_along(exponents, _centred(size, size), points) for size, points in zip(shape, controls, strict=True)]
    to_grid[0] *= weights[:, None, None]
    return np.linalg.inv(system)[:, :n], to_grid


def _gaussians(narrowest: float, widest: float) -> tuple[Float64[ndarray, " g"], Float64[ndarray, " g"]]:
    """Find exponents t and weights c whose sum of c exp(-t r^2) is r up to a constant, for r between two lengths.

    This is the trapezoidal rule, in s = log(t) / 2, of r = integral of exp(-s) (1 - exp(-r^2 exp(2 s))) / sqrt(pi) ds.
    """
    s = np.arange(-log(widest), -log(narrowest), _LOG_STEP)
    return np.exp(2 * s), -_LOG_STEP / sqrt(pi) * np.exp(-s)


def _along(
    exponents: Float64[ndarray, " g"], to: Float64[ndarray, " a"], points: Float64[ndarray, " b"]
) -> Float64[ndarray, "g a b"]:
    return np.exp(-exponents[:, None, None] * (to[:, None] - points) ** 2)


def _centred(size: int, count: int) -> Float64[ndarray, " count"]:
    """Spread `count` positions evenly from the first to the last of `size` voxels, in voxels from the middle."""
    return np.linspace(-(size - 1) / 2, (size - 1) / 2, count)
