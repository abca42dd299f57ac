"""What the kit computes on a GPU against the CPU: on a real one where there is one, and on a pretended one anywhere."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretend_gpu import pretended_gpu
from safetensors.torch import load_file

from lumirkit.bench.images import brain_like_pair
from lumirkit.registration.device import Place
from lumirkit.registration.precision import Precision
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.submission.shipped_weights import SHIPPED_WEIGHTS
from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, load_recipe
from lumirkit.train.shipped_recipes import find_recipe

CPU = torch.device("cpu")
FIELD_TOLERANCE_VOX = 1e-3
OF_THE_MACHINE = {"seconds", "waited_seconds", "samples_per_second", "memory_gb"}


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request):
    """A GPU: `-m gpu` takes the real one."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        yield torch.device("cuda", 0)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numba cannot use this GPU", category=RuntimeWarning)
        with pretended_gpu() as device:
            yield device


@pytest.fixture(scope="module")
def pair():
    return brain_like_pair((48, 56, 64))


def other_contrast(image):
    return replace(image, data=np.where(image.data > 0, 260 - image.data, 0).astype(np.float32))


@pytest.mark.parametrize("contrasts", ["one contrast", "two contrasts"])
@pytest.mark.parametrize("refinement", [None, Refinement(steps=1)])
def test_both_fields_of_the_shipped_weights(gpu, pair, contrasts, refinement):
    fixed, moving = pair
    if contrasts == "two contrasts":
        moving = other_contrast(moving)
    on_cpu, on_gpu = (
        Predictor([SHIPPED_WEIGHTS], Place(device), refinement).both_directions(fixed, moving) for device in (CPU, gpu)
    )
    assert np.abs(on_cpu.forward_vox).max() > 1
    np.testing.assert_allclose(on_gpu.forward_vox, on_cpu.forward_vox, rtol=0, atol=FIELD_TOLERANCE_VOX)
    inverses = (fields.inverse.to_voxels() for fields in (on_gpu, on_cpu))
    np.testing.assert_allclose(*inverses, rtol=0, atol=FIELD_TOLERANCE_VOX)


def test_a_refinement_reaches_the_same_loss(gpu, pair):
    """Not the same field: at a voxel's very place, where it starts, an interpolated image has two derivatives."""
    losses = []
    for device in (CPU, gpu):
        refining = Predictor([], Place(device), Refinement(steps=3))
        assert np.isfinite(refining(*pair)).all()
        losses.append([stage.course.loss_after for stage in refining.taken])
    assert losses[1] == pytest.approx(losses[0], abs=0.01)


def small(name: str, **changes: Any) -> Recipe:
    """A shipped recipe with a network and stages that take no time, and all else as it is."""
    recipe = load_recipe(find_recipe(name))
    settings = recipe.model_dump(exclude_none=True)
    settings["network"] |= (
        {"resolution_vox": 2, "feature_channels": (4, 4), "update_channels": (4, 4)}
        if recipe.network.architecture == "sitreg"
        else {"encoder_channels": (4, 4), "decoder_channels": (4, 4), "head_channels": (4,)}
    )
    for stage in settings["stages"]:
        stage |= {"epochs": 1, "items_per_epoch": stage["batch_size"]}
        if "n_images" in stage:
            stage["n_images"] = 2
    return Recipe.model_validate(settings | changes)


def log_of(run: Path) -> list[dict[str, float]]:
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in OF_THE_MACHINE} for line in lines]


# Together they hold every source of pairs, every loss, both architectures, both number formats and all inputs.
@pytest.mark.parametrize(
    "name", ["lumir25", "open", "ddmr_UW-NSDH_two_step", "hybridmorph_weighted", "sitreg_synthetic"]
)
def test_training_takes_the_same_steps(gpu, phantom_root, tmp_path, name):
    recipe = small(name)
    for device in (CPU, gpu):
        train(recipe, phantom_root, tmp_path / device.type, Processes(device))
    logs = log_of(tmp_path / "cpu"), log_of(tmp_path / "cuda")
    assert len(logs[0]) == len(logs[1]) >= len(recipe.stages)
    for number, (on_cpu, on_gpu) in enumerate(zip(*logs, strict=True)):
        # Adam's first steps are as long where a gradient is mere rounding as elsewhere.
        close = 1e-4 if number == 0 and recipe.convolutions is Precision.FLOAT32 else 0.03
        assert on_gpu == pytest.approx(on_cpu, rel=close, abs=1e-3 * close)


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(gpu, phantom_root, tmp_path):
    recipe = small("lumir25", ema_decay=0.9, validation=None)
    train(recipe, phantom_root, tmp_path / "whole", Processes(gpu))
    for _ in range(5):
        train(recipe, phantom_root, tmp_path / "parts", Processes(gpu), deadline=Deadline(0))
    whole, parts = log_of(tmp_path / "whole"), log_of(tmp_path / "parts")
    assert len(whole) == len(parts) >= 2
    for line, same in zip(whole, parts, strict=True):
        assert same == pytest.approx(line, rel=1e-5, abs=1e-6)
    weights = [load_file(next((tmp_path / run / "weights").glob("*.safetensors"))) for run in ("whole", "parts")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5)
