"""The memory that a process has used, and the part that autograd keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

import torch
from torch import Tensor

from lumirkit.base.memory import peak_bytes_on, resident_memory_bytes


class MemoryMeter:
    """A meter of peak memory since it was made: the process's memory, or what torch allocated on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.start_bytes = torch.cuda.memory_allocated(device)
        else:
            self.start_bytes = resident_memory_bytes()

    def peak_bytes(self) -> int:
        """The most memory held so far, in bytes; on the CPU since the process began."""
        return peak_bytes_on(self._device)


class SavedBytes:
    """A counter of the bytes that autograd saves for the backward pass in a block; every storage counts once.

    A storage is counted whole because a saved view keeps all of it. What a custom function keeps without
    `save_for_backward` is not seen.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        """Start at 0; `parameters` are not counted, since they are there without a backward pass, too."""
        self.bytes = 0
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()  # an output that refers to its own graph would never be freed
