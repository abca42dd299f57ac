"""How much memory this process holds and has held, and on pages of what size."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")


def use_huge_pages() -> None:
    """Let torch keep large tensors on huge pages; a command calls this first, before there are any.

    Tensors of hundreds of megabytes come and go; on pages of 4 KB the system spends more time on handing them out than
    the arithmetic takes. Torch looks at the variable at its first large allocation; a system without huge pages ignores
    it, and a value that the user has set stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def peak_memory_bytes() -> int:
    """Read the most memory that this process has held so far, in bytes (resident; high-water mark).

    Linux counts pages in batches for each core, so the mark can be some hundred kilobytes too low.
    """
    if _STATUS.exists():
        # Not ru_maxrss: Linux starts that with the mark of the process that started this one.
        return _status_bytes("VmHWM")
    import resource  # not on every system, and nothing else in the command needs it

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory_bytes() -> int:
    """Read the memory that this process holds now, in bytes; where the system does not tell, the most it has held."""
    return _status_bytes("VmRSS") if _STATUS.exists() else peak_memory_bytes()


def peak_bytes_on(device: torch.device) -> int:
    """Read the most memory held so far: what torch allocated on a GPU, or the process's own on the CPU."""
    if device.type != "cuda":
        return peak_memory_bytes()
    import torch  # takes seconds, and the rest of the ground floor does without

    return torch.cuda.max_memory_allocated(device)


def _status_bytes(key: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
