"""One training step in one of several processes; the first one writes the averaged gradients and terms. For torchrun.

Arguments: dataset folder, output file, JSON of the stage.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.train.data import GroupSampler, TrainingImages
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Stage
from lumirkit.train.step import Stepper


def main(data: Path, out: Path, stage: Stage) -> None:
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(resolution_vox=2, feature_channels=(4, 4), update_channels=(4, 4))).double()
    for update in network.updates:
        torch.nn.init.normal_(update.head.weight, std=0.3)
    with Processes.joined(torch.device("cpu")) as processes:
        sampler = GroupSampler(TrainingImages(data, processes), seed=1, stage=0, group=stage.images_per_item)
        stepper = Stepper(network, stage, 0, sampler, processes)
        terms = stepper.take(stepper.batches.load(0))
        if processes.is_first:
            gradients = {name: parameter.grad.contiguous() for name, parameter in network.named_parameters()}
            save_file(gradients, out, metadata={"terms": json.dumps(terms)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Stage.model_validate_json(sys.argv[3]))
