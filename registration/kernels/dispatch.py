"""Which tensors the compiled kernels serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float64)
_enabled = True


def kernels_serve(*tensors: Tensor) -> bool:
    """Whether compiled kernels compute on these tensors: all on the CPU, all of one floating dtype they know."""
    first = tensors[0].dtype
    return (
        _enabled
        and first in _DTYPES
        and all(tensor.device.type == "cpu" and tensor.dtype == first for tensor in tensors)
    )


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute with the plain torch versions inside this block (of the whole process, not of one thread)."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
