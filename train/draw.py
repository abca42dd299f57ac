"""Random numbers and smooth random volumes that belong to a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from lumirkit.registration.spline_noise import spline_noise
from lumirkit.registration.tensors import DisplacementVox, Volume5d


class Draw:
    """Random numbers of one sample, all from its own generators: numbers on the CPU, volumes on the device."""

    def __init__(self, seed: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self.shape, self.device = tuple(shape), device
        numbers_seed, volumes_seed = np.random.SeedSequence(seed).spawn(2)
        self._numbers = np.random.default_rng(numbers_seed)
        self._volumes = torch.Generator(device).manual_seed(int(volumes_seed.generate_state(1, np.uint64)[0] >> 1))

    def number(self, bounds: tuple[float, float]) -> float:
        """A number drawn uniformly between the bounds."""
        return float(self._numbers.uniform(*bounds))

    def numbers(self, count: int, bounds: tuple[float, float]) -> Float[Tensor, " count"]:
        """Several such numbers, on the device."""
        return torch.as_tensor(self._numbers.uniform(*bounds, count), dtype=torch.float32, device=self.device)

    def normal_number(self) -> float:
        """A normal number of mean 0 and standard deviation 1."""
        return float(self._numbers.normal())

    def rotation(self) -> Float[Tensor, "3 3"]:
        """A rotation drawn evenly from all rotations."""
        matrix = Rotation.random(rng=self._numbers).as_matrix()
        return torch.as_tensor(matrix, dtype=torch.float32, device=self.device)

    def noise(self) -> Volume5d:
        """One volume of independent normal numbers."""
        return torch.randn((1, 1, *self.shape), generator=self._volumes, device=self.device)

    def smooth(self, batch: int, channels: int, scale_vox: tuple[float, float]) -> Volume5d:
        """Volumes of smooth noise, all of one scale."""
        return spline_noise(batch, channels, max(1, round(self.number(scale_vox))), self.shape, self._volumes)

    def velocity(self, std_vox: tuple[float, float], scale_vox: tuple[float, float], batch: int = 1) -> DisplacementVox:
        """Smooth velocities of one standard deviation and one distance between control points."""
        return self.number(std_vox) * self.smooth(batch, 3, scale_vox)
