"""The affine or rigid transform between two images by their mutual information, for where ANTs is not installed.

Both images are read on grids of 8 and then 4 mm. The transform is the exponential of a matrix around the centres of
mass, so it never mirrors; of a skew matrix it is a rotation. Mutual information does not ask whether bright in one
image is bright in the other, so contrasts may differ.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from nibabel.affines import from_matvec
from numpy import ndarray
from scipy.optimize import minimize
from torch import Tensor

from lumirkit.registration.any_pair.frame import brain_box_mm, brain_centre_mm, resampled
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume

_SPACINGS_MM = (8.0, 4.0)
_MARGIN_MM = 12.0
_BINS = 32  # of intensities, for the joint histogram
_RADIUS_MM = 60.0  # one unit of every parameter moves the rim of a brain by a mm
_TURNS_DEGREES = (-25.0, 25.0)  # starts beside that of the headers, about each axis
_BRIGHT_PERCENTILE = 99.5
_ROUGH_STEPS, _STEPS = 15, 80
_SKEW = torch.tensor(
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]],
    dtype=torch.float64,
)


def find_affine(fixed: Volume, moving: Volume, rigid: bool = False) -> Float64[ndarray, "4 4"]:
    """Find the affine that takes positions in the fixed image to positions in the moving one, both in RAS mm.

    Args:
        fixed: an image on background 0, as `moving` is; intensities may differ in scale and in contrast.
        rigid: allow turns and shifts alone.

    Raises:
        VolumeError: an image has no brain of a possible size.
    """
    centres = brain_centre_mm(fixed), brain_centre_mm(moving)
    coarse = _Comparison(fixed, moving, centres, _SPACINGS_MM[0])
    starts = [np.zeros(6)] + [_turn(axis, angle) for axis, angle in product(range(3), _TURNS_DEGREES)]
    best = min((coarse.descended(start, _ROUGH_STEPS) for start in starts), key=coarse.loss)
    parameters = best if rigid else np.concatenate([_as_matrix(best[:3]), best[3:]])
    for spacing in _SPACINGS_MM:
        parameters = _Comparison(fixed, moving, centres, spacing).descended(parameters, _STEPS)
    linear, shift = (tensor.numpy() for tensor in _transform(torch.from_numpy(parameters)))
    return from_matvec(linear, centres[1] + shift - linear @ centres[0])


class _Comparison:
    """Two images on grids of one spacing, and how well they match after a transform.

    Parameters are the shift in mm (the last three), after the matrix whose exponential turns and scales: nine numbers,
    or three of a rotation.
    """

    def __init__(
        self, fixed: Volume, moving: Volume, centres: tuple[Float64[ndarray, " 3"], Float64[ndarray, " 3"]], mm: float
    ) -> None:
        one, other = (resampled(image, _grid_around(image, mm)) for image in (fixed, moving))
        at = np.moveaxis(np.indices(one.shape, dtype=np.float64), 0, -1) @ one.affine[:3, :3].T + one.affine[:3, 3]
        self._from_centre_mm = torch.from_numpy((at - centres[0]).reshape(-1, 3)).float()
        self._rows = _places(torch.from_numpy(one.data).reshape(-1), _brightest(one)).round().long() * _BINS
        self._moving, self._brightest = torch.from_numpy(other.data)[None, None], _brightest(other)
        self._to_voxels = torch.from_numpy(np.linalg.inv(other.affine)).float()
        self._centre_mm = torch.from_numpy(centres[1]).float()

    def loss(self, parameters: Float64[ndarray, " n"]) -> float:
        """The negative normalised mutual information."""
        with torch.no_grad():
            return float(self._loss(torch.from_numpy(parameters)))

    def descended(self, start: Float64[ndarray, " n"], steps: int) -> Float64[ndarray, " n"]:
        """The parameters after so many steps of L-BFGS."""

        def value_and_gradient(parameters: Float64[ndarray, " n"]) -> tuple[float, Float64[ndarray, " n"]]:
            leaf = torch.from_numpy(parameters.copy()).requires_grad_()
            loss = self._loss(leaf)
            (gradient,) = torch.autograd.grad(loss, leaf)
            return float(loss.detach()), gradient.numpy()

        found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
        return np.asarray(found.x, np.float64)

    def _loss(self, parameters: Float64[Tensor, " n"]) -> Float[Tensor, ""]:
        linear, shift = (tensor.float() for tensor in _transform(parameters))
        there_mm = self._from_centre_mm @ linear.T + (self._centre_mm + shift)
        at = there_mm @ self._to_voxels[:3, :3].T + self._to_voxels[:3, 3]
        sizes = torch.tensor(self._moving.shape[2:], dtype=torch.float32)
        unit = ((2 * at + 1) / sizes - 1).flip(-1)[None, None, None]
        values = F.grid_sample(self._moving, unit, padding_mode="zeros", align_corners=False).reshape(-1)
        share = self._joint_histogram(values) / len(values)
        entropies = [_entropy(share.sum(1)), _entropy(share.sum(0))]
        return -(entropies[0] + entropies[1]) / _entropy(share.reshape(-1))

    def _joint_histogram(self, values: Float32[Tensor, " n"]) -> Float32[Tensor, "fixed moving"]:
        """How often bins meet; a moving value is shared linearly by the two nearest, so that it has a gradient."""
        places = _places(values, self._brightest)
        low = places.detach().floor().clamp(max=_BINS - 2)
        above, cells = places - low, self._rows + low.long()
        joint = torch.zeros(_BINS * _BINS).index_add(0, cells, 1 - above).index_add(0, cells + 1, above)
        return joint.reshape(_BINS, _BINS)


def _transform(parameters: Float64[Tensor, " n"]) -> tuple[Float64[Tensor, "3 3"], Float64[Tensor, " 3"]]:
    """The linear part and the shift that parameters stand for."""
    generator, shift = parameters[:-3] / _RADIUS_MM, parameters[-3:]
    is_rotation = len(generator) == 3
    matrix = torch.tensordot(generator, _SKEW, 1) if is_rotation else generator.reshape(3, 3)
    return torch.matrix_exp(matrix), shift


def _as_matrix(rotation: Float64[ndarray, " 3"]) -> Float64[ndarray, " 9"]:
    """The nine parameters of the rotation that three describe."""
    return torch.tensordot(torch.from_numpy(rotation), _SKEW, 1).reshape(-1).numpy()


def _turn(axis: int, degrees: float) -> Float64[ndarray, " 6"]:
    parameters = np.zeros(6)
    parameters[axis] = np.deg2rad(degrees) * _RADIUS_MM
    return parameters


def _grid_around(image: Volume, mm: float) -> Grid:
    """A grid of one spacing along the axes of the world, around what is not background."""
    low, high = brain_box_mm(image) + _MARGIN_MM * np.array([[-1], [1]])
    x, y, z = (int(size) for size in np.ceil((high - low) / mm) + 1)
    return Grid((x, y, z), from_matvec(mm * np.eye(3), low))


def _brightest(image: Volume) -> float:
    """Where the bins end; fat and vessels beyond share the last one."""
    return float(np.percentile(image.data[image.data > 0], _BRIGHT_PERCENTILE))


def _places(values: Float32[Tensor, " n"], brightest: float) -> Float32[Tensor, " n"]:
    """Where values lie among the bins, from 0 to the last."""
    return values.clamp(0, brightest) * ((_BINS - 1) / brightest)


def _entropy(shares: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    return -torch.special.xlogy(shares, shares.clamp(min=1e-12)).sum()
