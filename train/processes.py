"""The processes of one training run: which one this is, and what they tell each other through torch.distributed.

`torchrun` starts them on one node or several; under SLURM, `srun` alone does too. Without either there is one process,
and everything here is the identity.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Shared = TypeVar("Shared")

_SLURM_PORTS = (20000, 40000)  # where the processes of a job meet, by the job's number


@dataclass(frozen=True)
class Processes:
    """This process among all: `rank` of `size`, and `local_rank` among those of its node."""

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device) -> Iterator[Self]:
        """Join the processes that the environment announces, and leave them at the end.

        Args:
            device: `cuda` without a number becomes the GPU of the process's own place on its node.
        """
        environment = _announced(os.environ)
        if environment is None:
            yield cls(device)
            return
        os.environ.update(environment)
        local_rank = int(environment["LOCAL_RANK"])
        if device == torch.device("cuda"):
            device = torch.device("cuda", local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield cls(device, dist.get_rank(), dist.get_world_size(), local_rank)
        finally:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes files and shows progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: Shared) -> list[Shared]:
        """The (small, picklable) values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Shared] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def any(self, value: bool) -> bool:
        """Whether the value is true in any process."""
        if self.size == 1:
            return value
        truth = torch.tensor(int(value), device=self.device)
        dist.all_reduce(truth, dist.ReduceOp.MAX)
        return bool(truth)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.size == 1:
            return dict(values)
        together = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(together)
        return dict(zip(values, (together / self.size).tolist(), strict=True))

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(together)
        parts = (together / self.size).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def from_trio(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of the three processes that share a triplet: ranks 3n, 3n + 1 and 3n + 2."""
        first = self.rank - self.rank % 3
        pieces = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(3)]
        tensor = tensor.contiguous()
        requests = []
        for place, piece in enumerate(pieces):
            other = first + place
            if other == self.rank:
                piece.copy_(tensor)
            else:
                requests += [dist.P2POp(dist.isend, tensor, other), dist.P2POp(dist.irecv, piece, other)]
        for request in dist.batch_isend_irecv(requests):
            request.wait()
        return pieces

    def gather_on_node(self, value: Shared) -> list[Shared]:
        """The values of the processes on this node, by rank."""
        here = socket.gethostname()
        return [other for host, other in self.gather((here, value)) if host == here]


def _announced(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The variables of torch.distributed that torchrun or srun imply; None for a process alone."""
    if int(environment.get("WORLD_SIZE", 1)) > 1:
        return {"LOCAL_RANK": environment.get("LOCAL_RANK", environment["RANK"])}
    # The job step's variables count: a batch script has the job's own set too, although nobody else runs there.
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        first, last = _SLURM_PORTS
        return {
            "RANK": environment["SLURM_PROCID"],
            "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
            "LOCAL_RANK": environment["SLURM_LOCALID"],
            "MASTER_ADDR": _first_host(environment["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": str(first + int(environment["SLURM_JOB_ID"]) % (last - first)),
        }
    return None


def _first_host(node_list: str) -> str:
    """The first name in SLURM's short form of a list: `gpu[07-09,12],login` -> `gpu07`."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", node_list).split(",")[0]
