"""Which machine a benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel


class Machine(BaseModel):
    """What somebody needs to know to compare the numbers with those of another run."""

    name: str
    device: str
    torch: str
    threads: int
    date: str
    load: float
    """Processes that wanted a processor in the minute before; near 0 on a quiet machine."""


def machine_name() -> str:
    """The processor's name, as Linux gives it, or else what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def describe_machine(device: str, threads: int) -> Machine:
    """The machine, as it is now.

    Args:
        device: cpu, cuda or cuda:<n>; a GPU is given by its name.
        threads: of torch, in the measured processes.
    """
    where = device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = os.getloadavg()[0]
    return Machine(name=machine_name(), device=where, torch=torch.__version__, threads=threads, date=date, load=load)
