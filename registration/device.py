"""The place where a pair is registered, as a user asks for it, and the next one to try if memory is short there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F

from lumirkit.base.errors import RequestError
from lumirkit.registration.precision import Precision, PrecisionChoice

_BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")  # of x86 processors, and of Arm's
_LAYER = (2, 32, 40, 56, 48)  # features of a middle level of the network
_REPEATS = 3


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


def list_devices(names: str) -> list[str]:
    """Split an option's value into the names of devices: several with commas between them, or all for every GPU.

    Raises:
        RequestError: a device is named twice, or there is no GPU.
    """
    if names != "all":
        devices = names.split(",")
        if "" in devices or len({*devices}) < len(devices):
            raise RequestError(f"--device {names}: expected one name, or several with commas between them, each once.")
        return devices
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if not devices:
        raise RequestError("--device all: torch finds no CUDA device here; use --device cpu or auto")
    return devices


def find_place(device: str, convolutions: str) -> Place:
    """Turn the values of two options into a place.

    Args:
        device: see `choose_device`.
        convolutions: float32, bfloat16, or auto, which is bfloat16 where the device has units for it.

    Raises:
        RequestError: there is no such device or number format.
    """
    if convolutions not in list(PrecisionChoice):
        raise RequestError(f"convolutions: found {convolutions!r}; expected one of {', '.join(PrecisionChoice)}.")
    chosen = choose_device(device)
    if convolutions == PrecisionChoice.AUTO:
        return Place(chosen, Precision.BFLOAT16 if has_bfloat16_units(chosen) else Precision.FLOAT32)
    return Place(chosen, Precision(convolutions))


def choose_place(device: str, convolutions: str, say: Callable[[str], None]) -> Place:
    """Find a place as `find_place` does, and warn of a number format that is slow there.

    Args:
        device: see `choose_device`.
        convolutions: see `find_place`.
        say: is told if the number format costs time here.

    Raises:
        RequestError: there is no such device or number format.
    """
    place = find_place(device, convolutions)
    chosen = place.device
    if convolutions == PrecisionChoice.BFLOAT16 and not has_bfloat16_units(chosen):
        factor = _layer_seconds(chosen, torch.bfloat16) / _layer_seconds(chosen, torch.float32)
        say(
            f"warning: --convolutions bfloat16: found a {chosen.type} without units for it, where a convolution takes "
            f"{factor:.1f} times the time of float32, as measured now. Leave the format to auto."
        )
    return place


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, rather than by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(unit, False) for unit in _BFLOAT16_UNITS)


def _layer_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The time of one convolution of the network, the best of some."""
    channels = _LAYER[1]
    layout = torch.channels_last_3d
    features = torch.randn(_LAYER, device=device).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(channels, channels, 3, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)
    seconds = []
    with torch.inference_mode():
        for _ in range(_REPEATS + 1):  # the first one warms up
            start = time.perf_counter()
            F.conv3d(features, weight, padding=1).sum().item()  # a number must have arrived
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
