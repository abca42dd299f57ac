"""The mean brain of a group: every brain registered to the current mean, averaged, and moved to the middle of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.progress import Progress
from lumirkit.registration.grid import Grid
from lumirkit.registration.inverse import invert
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.volume import Volume, read_image
from lumirkit.registration.warp import sample

FEWEST = 2
_BRAIN_SHARE = 0.5  # a voxel of the mean is brain where so many of the brains are


class Register(Protocol):
    """What finds the field of a pair, such as a `Predictor`."""

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """The pull-back displacement on the fixed grid, in voxels."""


@dataclass(frozen=True)
class Round:
    """One round of the search, as it is told to the user."""

    number: int
    """0 for the mean of the brains as they lie."""
    sharpness: float
    """Mean length of the mean brain's gradient, in intensities a voxel."""
    shift_vox: float
    """How far the brain was moved to the middle of all, on average."""

    def __str__(self) -> str:
        return f"round {self.number}: mean gradient {self.sharpness:.2f}, moved by {self.shift_vox:.2f} voxels"


def groupwise_mean(brains: Sequence[Path], register: Register, rounds: int, say: Callable[[str], None]) -> Volume:
    """Find the mean of brains that share one grid, with intensities 0…255 and background 0.

    Each round registers every brain to the current mean, averages the warped brains, and warps that average by the
    inverse of the mean field, so that it lies in the middle of all brains and not where the first mean did.

    Args:
        register: finds a field of full size.
        rounds: how often; 0 gives the plain mean.
        say: is told of every round.

    Raises:
        RequestError: there are fewer than two brains.
        VolumeError: one of them cannot be read, or lies on another grid.
    """
    if len(brains) < FEWEST:
        raise RequestError(f"found {len(brains)} brains; expected at least {FEWEST} for a mean. Name more of them.")
    first = read_image(brains[0])
    grid = Grid.from_image(first)
    mean = _average(brains, grid, None)
    say(str(Round(0, _sharpness(mean.image), 0.0)))
    for number in range(1, rounds + 1):
        current = Volume(f"the mean of round {number - 1}", _as_array(mean.image), grid.affine)

        def find(brain: Volume, current: Volume = current) -> Tensor:
            return _as_field(register(current, brain))

        mean = _average(brains, grid, find, f"round {number}")
        back = invert(mean.disp_vox)
        moved, share = (sample(volume, back, "zeros") for volume in (mean.image, mean.share))
        mean = _Mean(_clean(moved, share), share, mean.disp_vox)
        say(str(Round(number, _sharpness(mean.image), float(mean.disp_vox.square().sum(1).sqrt().mean()))))
    return Volume("the mean brain", _as_array(mean.image), grid.affine)


@dataclass(frozen=True)
class _Mean:
    """Averages over brains: intensities in the brain, the share of brains at a voxel, and the field."""

    image: Volume5d
    share: Volume5d
    disp_vox: DisplacementVox


def _average(
    brains: Sequence[Path], grid: Grid, find: Callable[[Volume], Tensor] | None, work: str = "reading"
) -> _Mean:
    """Average brains through the fields that `find` gives, or as they lie; background counts for nothing."""
    total, count = torch.zeros(1, 1, *grid.shape), torch.zeros(1, 1, *grid.shape)
    field = torch.zeros(1, 3, *grid.shape)
    with torch.inference_mode(), Progress(len(brains), work) as progress:
        for path in brains:
            brain = read_image(path)
            _require_grid(brain, grid)
            image = torch.from_numpy(brain.data)[None, None]
            mask = (image > 0).float()
            if find is not None:
                disp_vox = find(brain)
                image, mask = (sample(volume, disp_vox, "zeros") for volume in (image, mask))
                field += disp_vox
            total += image
            count += mask
            progress.advance()
    share = count / len(brains)
    return _Mean(_clean(total / count.clamp(min=1e-3), share), share, field / len(brains))


def _clean(image: Volume5d, share: Volume5d) -> Volume5d:
    """0 outside the brain, 1…255 in it."""
    return torch.where(share >= _BRAIN_SHARE, image.clamp(1, 255), 0.0)


def _require_grid(brain: Volume, grid: Grid) -> None:
    """Check that a brain lies where the others do.

    Raises:
        VolumeError: it lies elsewhere.
    """
    found = Grid.from_image(brain)
    if not found.same_as(grid):
        raise VolumeError(
            f"{brain.name}: lies on {found}; expected {grid}, as the first brain does. Bring all brains to one frame, "
            "as `lumirkit prepare` does."
        )


def _sharpness(image: Volume5d) -> float:
    array = _as_array(image)
    slopes = np.stack(np.gradient(array))
    return float(np.sqrt(np.square(slopes).sum(axis=0))[array > 0].mean())


def _as_field(disp_vox: Float32[ndarray, "x y z 3"]) -> DisplacementVox:
    return torch.from_numpy(disp_vox).movedim(-1, 0)[None].contiguous()


def _as_array(image: Volume5d) -> Float32[ndarray, "x y z"]:
    return np.ascontiguousarray(image[0, 0].numpy())
