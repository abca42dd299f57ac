"""The machine's best rates, measured: arithmetic and copying."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import BaseModel

_REPEATS = 5
_MATRIX = 2048
_CHANNELS, _GRID = 128, (20, 28, 24)  # a middle level of the LUMIR network, where convolutions run best
_COPY_BYTES = 1 << 28

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Floor(BaseModel):
    """The best rates of some repeats: GFLOP/s (10^9 operations a second) by dtype, bandwidth in GB/s (10^9 bytes)."""

    matrix_gflops: dict[str, float]
    """The rate of the product of two square matrices."""
    convolution_gflops: dict[str, float]
    """The rate of a 3x3x3 convolution, which another library computes, on some processors faster."""
    copy_gb_per_s: float
    """The bandwidth of copying a large array: bytes read plus bytes written."""

    def seconds(self, flop: float, dtype: str) -> float:
        """The time that a number of operations takes at the better of the two rates."""
        return flop / (1e9 * max(self.matrix_gflops[dtype], self.convolution_gflops[dtype]))


def measure_floor(device: torch.device) -> Floor:
    """Measure the rates and the bandwidth of a device; takes some seconds."""
    with torch.inference_mode():
        matrix = {name: _matrix_gflops(device, dtype) for name, dtype in DTYPES.items()}
        convolution = {name: _convolution_gflops(device, dtype) for name, dtype in DTYPES.items()}
        return Floor(matrix_gflops=matrix, convolution_gflops=convolution, copy_gb_per_s=_copy_gb_per_s(device))


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matrix_gflops(device: torch.device, dtype: torch.dtype) -> float:
    a, b = torch.randn(2, _MATRIX, _MATRIX, device=device).to(dtype)
    return 2e-9 * _MATRIX**3 / _best_seconds(lambda: torch.mm(a, b), device)


def _convolution_gflops(device: torch.device, dtype: torch.dtype) -> float:
    layout = torch.channels_last_3d
    volume = torch.randn(2, _CHANNELS, *_GRID, device=device).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)
    flop = 2 * volume.numel() * weight[0].numel()
    return 1e-9 * flop / _best_seconds(lambda: F.conv3d(volume, weight, padding=1), device)


def _copy_gb_per_s(device: torch.device) -> float:
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2e-9 * _COPY_BYTES / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(call: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(_REPEATS + 1):  # the first one warms up
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
