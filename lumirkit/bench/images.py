"""The images of the benchmarks: smooth random intensities in an ellipsoid; each shape always gives the same pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lumirkit.bench.kinds import Shape
from lumirkit.registration.volume import Volume

_BLOB_VOX = 6  # distance of the random values between which the intensities are interpolated


def brain_like_pair(shape: Shape) -> tuple[Volume, Volume]:
    """Make two different images (X, Y, Z) of whole intensities 0…255 with 0 outside the ellipsoid."""
    return _brain_like(shape, 0), _brain_like(shape, 1)


def _brain_like(shape: Shape, seed: int) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    coarse = [max(2, size // _BLOB_VOX) for size in shape]
    noise = torch.rand(1, 1, *coarse, generator=generator)
    intensity = 20 + 235 * F.interpolate(noise, size=shape, mode="trilinear")[0, 0]
    x, y, z = (torch.linspace(-1.1, 1.1, size) for size in shape)
    inside = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2 < 1
    data = torch.where(inside, intensity.round(), torch.zeros(()))
    return Volume(Path(f"image{seed}"), data.numpy().astype(np.float32, copy=False), np.eye(4))
