"""Linear operators that act on each axis on its own: interpolation, splines, box sums, smoothing.

Every such operator is one small matrix per axis, exact at the borders by construction. Where kernels serve, only its
nonzero weights are visited; elsewhere it is a dense product, whose gradient comes for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.kernels.dispatch import kernels_serve
from lumirkit.registration.kernels.functions import ApplyTaps, Taps

Matrix = Float[Tensor, "n_out n_in"]


class AxisOperator:
    """The matrix that one axis is multiplied by, and its nonzero weights."""

    def __init__(self, matrix: Matrix) -> None:
        with torch.inference_mode(False):  # operators are kept, and one made while predicting may serve in training
            self.matrix = matrix.clone()

    @cached_property
    def taps(self) -> Taps:
        """The columns and the nonzero weights of each output."""
        return _taps(self.matrix)

    @cached_property
    def transposed_taps(self) -> Taps:
        """The columns and the nonzero weights of each input, which the gradient needs."""
        return _taps(self.matrix.T)


def _taps(matrix: Matrix) -> Taps:
    """Find the columns and the weights of the nonzero entries, (taps, n_out); 0 fills up rows with fewer of them."""
    dense = matrix.numpy()
    count = max(1, int((dense != 0).sum(axis=1).max()))
    columns = np.argsort(dense == 0, axis=1, kind="stable")[:, :count]  # the nonzero ones first, in their order
    weights = np.take_along_axis(dense, columns, axis=1)
    return np.ascontiguousarray(columns.T, dtype=np.uint32), np.ascontiguousarray(weights.T)


def apply_along_axes(
    volume: Float[Tensor, "batch channel x y z"], operators: Sequence[AxisOperator]
) -> Float[Tensor, "batch channel x_out y_out z_out"]:
    """Apply one operator to each spatial axis; the axes that shrink go first, so that the work stays small.

    Among axes that shrink or grow alike the last goes first: passes along the outer axes run over whole rows, so they
    are best spent on the larger volume.
    """
    shapes = [operator.matrix.shape for operator in operators]
    for axis in sorted(range(3), key=lambda axis: (shapes[axis][0] / shapes[axis][1], -axis)):
        operator = operators[axis]
        if kernels_serve(volume):
            volume = ApplyTaps.apply(volume, operator.taps, operator.transposed_taps, axis)  # type: ignore[no-untyped-call]
        else:
            volume = _multiply_axis(volume, operator.matrix.to(volume), axis)
    return volume


def _multiply_axis(volume: Tensor, matrix: Matrix, axis: int) -> Tensor:
    batch, channels, x, y, z = volume.shape
    if axis == 0:
        return (matrix @ volume.reshape(batch, channels, x, y * z)).unflatten(-1, (y, z))
    if axis == 1:
        return matrix @ volume
    return volume @ matrix.T


def clamped_operator(weights: Float[Tensor, "n_out taps"], columns: Tensor, n_in: int) -> AxisOperator:
    """Assemble an operator from taps: row i holds `weights[i, j]` at column `columns[i, j]`.

    Columns outside 0…n_in-1 are clamped to the border, which is replicate extension of the input.
    """
    matrix = torch.zeros(weights.shape[0], n_in, dtype=weights.dtype)
    return AxisOperator(matrix.scatter_add_(1, columns.clamp(0, n_in - 1), weights))


def interpolation_operator(positions: Float[Tensor, " n_out"], n_in: int) -> AxisOperator:
    """Make the operator that reads n_in samples linearly at `positions` (in samples), clamped at the border."""
    positions = positions.clamp(0, n_in - 1)
    lower = positions.floor()
    fraction = positions - lower
    weights = torch.stack([1 - fraction, fraction], dim=1)
    return clamped_operator(weights, torch.stack([lower, lower + 1], dim=1).long(), n_in)
