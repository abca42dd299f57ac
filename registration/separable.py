"""Linear operators that act on each axis on its own: interpolation, splines, box sums, smoothing.

Every such operator is one small matrix per axis. A dense product with a short axis is the fastest form on CPUs and GPUs
alike, is exact at the borders by construction, and its gradient comes for free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "n_out n_in"]


def apply_along_axes(
    volume: Float[Tensor, "batch channel x y z"], matrices: Sequence[Matrix]
) -> Float[Tensor, "batch channel x_out y_out z_out"]:
    """Apply one matrix to each spatial axis; the axes that shrink go first, so that the work stays small."""
    matrices = [matrix.to(volume) for matrix in matrices]
    for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1]):
        volume = _apply_along_axis(volume, matrices[axis], axis)
    return volume


def _apply_along_axis(volume: Tensor, matrix: Matrix, axis: int) -> Tensor:
    batch, channels, x, y, z = volume.shape
    if axis == 0:
        return (matrix @ volume.reshape(batch, channels, x, y * z)).unflatten(-1, (y, z))
    if axis == 1:
        return matrix @ volume
    return volume @ matrix.T


def matrix_per_axis(build: Callable[[int], Matrix], shape: Sequence[int]) -> list[Matrix]:
    """Build the same operator for the size of each axis."""
    return [build(size) for size in shape]


def clamped_matrix(weights: Float[Tensor, "n_out taps"], columns: Tensor, n_in: int) -> Matrix:
    """Assemble a matrix from taps: row i holds `weights[i, j]` at column `columns[i, j]`.

    Columns outside 0…n_in-1 are clamped to the border, which is replicate extension of the input.
    """
    matrix = torch.zeros(weights.shape[0], n_in, dtype=weights.dtype)
    return matrix.scatter_add_(1, columns.clamp(0, n_in - 1), weights)


def interpolation_matrix(positions: Float[Tensor, " n_out"], n_in: int) -> Matrix:
    """Linear interpolation of n_in samples at `positions` (in samples), clamped at the border."""
    positions = positions.clamp(0, n_in - 1)
    lower = positions.floor()
    fraction = positions - lower
    weights = torch.stack([1 - fraction, fraction], dim=1)
    return clamped_matrix(weights, torch.stack([lower, lower + 1], dim=1).long(), n_in)
