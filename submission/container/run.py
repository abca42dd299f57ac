"""An image run on a dataset with the mounts and flags of the challenge."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from docker import DockerClient

from lumirkit.base.files import require_writable
from lumirkit.submission.container.engine import GIGABYTE, Conditions, Mount, started
from lumirkit.submission.contract import CONTRACTS
from lumirkit.submission.contract_name import ContractName


def mounts_of(contract: ContractName, dataset_json: Path, out: Path) -> list[Mount]:
    """The mounts of a year's task; auto means the latest year's.

    Args:
        dataset_json: pair list beside its images.
    """
    mounted = next(known for known in CONTRACTS if contract in (ContractName.AUTO, known.name))
    return [
        Mount(dataset_json.parent, str(mounted.images)),
        Mount(dataset_json, str(mounted.dataset_json)),
        Mount(out, str(mounted.output), writable=True),
    ]


def run_on_dataset(
    client: DockerClient,
    image: str,
    dataset_json: Path,
    out: Path,
    contract: ContractName,
    gpus: str | None,
    memory_gb: float | None,
    arguments: Sequence[str] = (),
) -> int:
    """Run an image as the organisers run it, its output shown as it comes; returns its exit status.

    Args:
        dataset_json: pair list beside its images.
        contract: the year whose mounts are made; auto means the latest.
        memory_gb: the most memory that it may take, in units of 2^30 bytes; None means no limit.

    Raises:
        RequestError: `out` is not writable.
        ContainerError: the engine refuses to start it.
    """
    require_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    conditions = Conditions(
        user=f"{os.getuid()}:{os.getgid()}",
        host_ipc=True,
        memory_bytes=None if memory_gb is None else int(memory_gb * GIGABYTE),
        gpus=gpus,
    )
    with started(client, image, arguments, mounts_of(contract, dataset_json, out), conditions) as container:
        for chunk in container.logs(stream=True, follow=True):
            sys.stderr.write(chunk.decode(errors="replace"))
        return int(container.wait()["StatusCode"])
