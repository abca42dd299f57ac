"""What the kit computes on a GPU against the CPU: on a real one where there is one, and on a pretended one anywhere."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretend_gpu import pretended_gpu
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from lumirkit.bench.images import brain_like_pair
from lumirkit.registration.device import Place
from lumirkit.registration.inverse import invert
from lumirkit.registration.losses import ndv_loss
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


def test_a_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu() as gpu:
        here, there = torch.ones(3), torch.ones(3, device=gpu)
        for mixed in (lambda: here + there, lambda: torch.cat([here, there]), lambda: there.clone().add_(here)):
            with pytest.raises(RuntimeError, match=r"at least two devices, cuda:0 and cpu"):
                mixed()
        for array in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\) first"):
                array()
        with pytest.raises(RuntimeError, match="for generator"):
            torch.randn(3, device=gpu, generator=torch.Generator())
        assert (there + 1).cpu().tolist() == [2, 2, 2]
        assert there[torch.tensor([0])].device == gpu  # torch copies an index itself


def operators_of(work: Callable[[], Any]) -> int:
    """How often torch is asked to compute something: each costs a GPU some microseconds, however small it is."""

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return operator(*args, **(kwargs or {}))

    with Counter() as counter:
        work()
    return counter.count


def test_a_gpu_is_asked_as_often_for_a_large_image_as_for_a_small_one():
    with pretended_gpu() as gpu:
        counts = []
        for shape in ((16, 16, 16), (56, 56, 56)):
            field = (0.2 * torch.rand(1, 3, *shape)).to(gpu)
            counts.append((operators_of(lambda: invert(field)), operators_of(lambda: ndv_loss(field))))  # noqa: B023
    (small_inverse, small_ndv), (large_inverse, large_ndv) = counts
    assert large_inverse < 2 * small_inverse  # a step of Newton's more
    assert large_ndv == small_ndv < 500
