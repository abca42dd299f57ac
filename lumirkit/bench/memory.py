"""How much memory a process has used, and how much autograd keeps for the backward pass."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

_STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far, in bytes (resident; high-water mark)."""
    if _STATUS.exists():
        # Not ru_maxrss: Linux starts that with the mark of the process that started this one.
        return _status_bytes("VmHWM")
    import resource  # not on every system, and nothing else in the command needs it

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory_bytes() -> int:
    """Memory that this process holds now, in bytes; where the system does not tell, the most it has held."""
    return _status_bytes("VmRSS") if _STATUS.exists() else peak_memory_bytes()


def _status_bytes(key: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


class MemoryMeter:
    """Peak memory of a device since this meter was made: the process's memory, or what torch allocated on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.start_bytes = torch.cuda.memory_allocated(device)
        else:
            self.start_bytes = resident_memory_bytes()

    def peak_bytes(self) -> int:
        """The most memory held so far, in bytes; on the CPU since the process began."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return peak_memory_bytes()


class SavedBytes:
    """Counts what autograd saves for the backward pass while the block runs: every storage once and whole.

    A storage is counted whole because a saved view keeps all of it. What a custom function keeps without
    `save_for_backward` is not seen.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        """`parameters` are not counted: they are there without a backward pass, too."""
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
