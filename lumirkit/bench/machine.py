"""The machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel


class Machine(BaseModel):
    """The facts about a machine that make the numbers of two runs comparable."""

    name: str
    device: str
    torch: str
    threads: int
    date: str
    load: float
    """The mean number of processes that wanted a processor in the last minute; near 0 on a quiet machine."""


def machine_name() -> str:
    """The processor's name from Linux or else from Python, and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def describe_machine(device: str, threads: int) -> Machine:
    """Describe the machine in its present state.

    Args:
        device: cpu, cuda or cuda:<n>; the description adds a GPU's name.
        threads: torch's threads in the measured processes.
    """
    where = device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = os.getloadavg()[0]
    return Machine(name=machine_name(), device=where, torch=torch.__version__, threads=threads, date=date, load=load)
