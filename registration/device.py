"""The place where a pair is registered, and the next one to try if memory is short there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from lumirkit.base.errors import RequestError
from lumirkit.registration.precision import Precision


@dataclass(frozen=True)
class Place:
    """A device, and the number format of the convolutions on it."""

    device: torch.device
    precision: Precision = Precision.FLOAT32

    @property
    def with_less_memory(self) -> Self | None:
        """The next place to try: bfloat16 on the same GPU, then the CPU; None where nothing is left."""
        if self.device.type == "cpu":
            return None
        if self.precision is Precision.FLOAT32:
            return type(self)(self.device, Precision.BFLOAT16)
        return type(self)(torch.device("cpu"))

    def __str__(self) -> str:
        return f"{self.device} in {self.precision}"


def choose_device(name: str) -> torch.device:
    """Turn an option's value into a device: auto, which takes a GPU where there is one, cpu, cuda or cuda:<n>.

    Raises:
        RequestError: the name is none of these, or no such GPU answers.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RequestError(f"--device {name}: expected auto, cpu, cuda or cuda:<n>") from error
    if device.type not in ("cpu", "cuda"):
        raise RequestError(f"--device {name}: expected auto, cpu, cuda or cuda:<n>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"--device {name}: torch finds {torch.cuda.device_count()} CUDA devices here; use --device cpu or auto"
        )
    return device
