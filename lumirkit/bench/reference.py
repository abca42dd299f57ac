"""The public SITReg code (github.com/honkamj/SITReg) at the same works, imported from a checkout of it.

It runs with its LUMIR configuration with the non-diffeomorphic volume, on one pair. The group consistency of that
configuration needs three processes and is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from lumirkit.base.errors import RequestError
from lumirkit.bench.images import brain_like_pair
from lumirkit.bench.kinds import Shape
from lumirkit.bench.networks import TrainingStep
from lumirkit.bench.work import Work
from lumirkit.registration.network import INTENSITY_MAX

_CONFIG = Path("src/scripts/configs/sitreg/lumir/cc_grad_1.0_very_deep_heavy_group_consistency_ndv.json")


def require_reference(checkout: Path) -> None:
    """Check that the checkout and the packages it needs are there, by importing it.

    Raises:
        RequestError: something is missing; the message names it.
    """
    if not (checkout / _CONFIG).is_file():
        raise RequestError(
            f"--reference {checkout}: found no {_CONFIG} in it; expected a checkout of the public SITReg repository "
            "(https://github.com/honkamj/SITReg). Clone it there, or leave --reference out."
        )
    try:
        _import_reference(checkout)
    except ImportError as error:
        raise RequestError(
            f"--reference {checkout}: the code there cannot be imported ({error}). Install what it needs: "
            "deformation-inversion-layer 1.1.2, composable-mapping 0.1.4 and attrs are in the extra `dev`."
        ) from error


def reference_call(work: Work) -> Callable[[], Float32[ndarray, "x y z 3"]]:
    """Make the call that registers one pair.

    Like ours it computes both fields and returns the forward one, (X, Y, Z, 3) in voxels.
    """
    training = _training(work)
    model = training.get_modules()["registration_network"]
    mapping = import_module("composable_mapping")
    device = torch.device(work.device)
    fixed, moving = (torch.from_numpy(image.data)[None, None] / INTENSITY_MAX for image in brain_like_pair(work.shape))

    def call() -> Float32[ndarray, "x y z 3"]:
        with torch.inference_mode(), mapping.sampling_cache():
            (pair,) = model(moving.to(device), fixed.to(device))
            forward, inverse = (
                one.sample(mapping.DataFormat.voxel_displacements()).generate_values()
                for one in (pair.forward_mapping, pair.inverse_mapping)
            )
        assert forward.shape == inverse.shape
        return np.ascontiguousarray(forward[0].movedim(0, -1).cpu().numpy())

    return call


def reference_step(work: Work) -> TrainingStep:
    """Make its training step on one pair: NCC (window 11), diffusion (weight 1), NDV (weight 1e-5), Adam."""
    training = _training(work)
    mapping = import_module("composable_mapping")
    augmentation = SimpleNamespace(as_mapping=lambda: mapping.Identity(dtype=torch.float32))  # none, in its terms
    items = []
    for image in brain_like_pair(work.shape):
        values = torch.from_numpy(image.data)[None, None] / INTENSITY_MAX
        items.append((values, values > 0, augmentation))

    def forward() -> Tensor:
        with mapping.sampling_cache():
            loss: Tensor = training._compute_losses(tuple(items))[0]  # what its `update_weights` does before backward
        return loss

    return TrainingStep(forward, training.get_optimizers()["optimizer"])


def _training(work: Work) -> Any:
    """Make its training definition, which holds the network, the losses and the optimizer."""
    assert work.reference is not None
    interface = _import_reference(work.reference)
    arguments = import_module("application.interface").TrainingDefinitionArgs(
        devices=[torch.device(work.device)],
        training_process_rank=0,
        training_process_local_rank=0,
        n_training_processes=1,
        n_local_training_processes=1,
    )
    torch.manual_seed(0)
    return interface.create_training_definition(_config(work.reference, work.shape), arguments)


def _import_reference(checkout: Path) -> Any:
    source = str(checkout.resolve() / "src")
    if source not in sys.path:
        sys.path.insert(0, source)
    sys.dont_write_bytecode = True  # the checkout is somebody else's folder
    return import_module("application.sitreg.interface")


def _config(checkout: Path, shape: Shape) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((checkout / _CONFIG).read_text(encoding="utf-8"))["application"]["config"]
    config["model"]["input_shape"] = list(shape)
    return config
