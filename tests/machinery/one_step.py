"""One training step in this process, or in one of several that share it."""

from pathlib import Path

import torch
from torch import Tensor

from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.data import GroupSampler, TrainingImages
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Stage
from lumirkit.train.step import Stepper


def take_one_step(data: Path, stage: Stage, processes: Processes) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradients, averaged over the processes, and the terms of the loss."""
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(resolution_vox=2, feature_channels=(4, 4), update_channels=(4, 4))).double()
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=0.3)
    sampler = GroupSampler(TrainingImages(data, processes), seed=1, stage=0, group=stage.images_per_item)
    stepper = Stepper(network, stage, 0, sampler, processes)
    terms = stepper.take(stepper.batches.load(0))
    return {name: parameter.grad.contiguous() for name, parameter in network.named_parameters()}, terms


def take_shared_steps(data: Path, out: Path, stages: list[Stage]) -> None:
    """Take one step of each stage with the other processes; the first one saves what came of them."""
    with Processes.joined(torch.device("cpu")) as processes:
        steps = [take_one_step(data, stage, processes) for stage in stages]
        if processes.is_first:
            torch.save(steps, out)
