"""What is compiled ahead is what is called, and it is kept."""

import os
import subprocess
import sys
from ast import literal_eval

import pytest

from lumirkit.registration.kernels.precompile import Precompilation, Task, kernels_of

CALLED = """
import importlib, pkgutil, sys
from numba.core.dispatcher import Dispatcher
from lumirkit.registration import kernels

def called():
    for module in pkgutil.iter_modules(kernels.__path__):
        if module.name == "cuda":
            continue
        found = importlib.import_module(f"lumirkit.registration.kernels.{module.name}")
        for kernel in vars(found).values():
            if isinstance(kernel, Dispatcher) and kernel.targetoptions.get("parallel"):
                yield from ((kernel.py_func.__module__, kernel.py_func.__name__, str(s)) for s in kernel.signatures)
"""
REGISTERED = """
import lumirkit, numpy as np
weights = lumirkit.load_weights(sys.argv[1], device="cpu", precision=sys.argv[2])
image = np.zeros((48, 48, 48), np.float32)
image[8:40, 8:40, 8:40] = np.random.default_rng(0).uniform(50, 200, (32, 32, 32))
lumirkit.register(image, image[::-1].copy(), weights=weights, say=lambda _: None)
"""
TRAINED = """
import lumirkit
lumirkit.train_recipe("demo", sys.argv[1], sys.argv[2], device="cpu",
                      overrides=["stages.*.epochs=1", "stages.*.items_per_epoch=2", "validation=null"])
"""


def calls_of(script, *arguments):
    """The kernels that a script calls in a process of its own, with the types that it calls them with."""
    text = f"{CALLED}{script}print(sorted(set(called())))"
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(literal_eval(done.stdout.splitlines()[-1]))


def compiled_ahead(*tasks):
    kernels = [kernel for task in tasks for kernel in kernels_of(task)]
    return {(kernel.py_func.__module__, kernel.py_func.__name__, str(signature)) for kernel, signature in kernels}


@pytest.mark.parametrize(
    ("precision", "task"), [("float32", Task.REGISTER), ("bfloat16", Task.REGISTER_IN_BFLOAT16)], ids=str
)
def test_all_that_a_registration_calls_is_compiled_ahead(make_weights, precision, task):
    assert calls_of(REGISTERED, make_weights(), precision) == compiled_ahead(task, Task.MIND)


def test_all_that_a_training_calls_is_compiled_ahead(phantom_root, tmp_path):
    assert calls_of(TRAINED, phantom_root, tmp_path / "run") == compiled_ahead(Task.TRAIN)


STARTED = """
import sys
from lumirkit.registration.kernels.precompile import Precompilation, Task
compiling = Precompilation([Task.MIND])
print(len(compiling._processes))
compiling.wait()
"""


def started(cache):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout), done.stderr


def test_what_is_compiled_is_kept_for_the_next_process(tmp_path):
    number, said = started(tmp_path)
    assert number == 2
    assert "once" in said
    assert list(tmp_path.rglob("*.nbc"))
    assert started(tmp_path) == (0, "")


def test_nothing_is_compiled_ahead_where_it_cannot_be_kept(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert Precompilation(list(Task))._processes == []


SAMPLED = """
import hashlib, torch
from lumirkit.registration.warp import sample
random = torch.Generator().manual_seed(0)
features = torch.rand(1, 4, 12, 12, 12, generator=random).contiguous(memory_format=torch.channels_last_3d)
disp_vox = (6 * torch.rand(1, 3, 12, 12, 12, generator=random) - 3).requires_grad_()
sampled = sample(features, disp_vox)
sampled.square().sum().backward()
print(*(hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest() for tensor in (sampled, disp_vox.grad)))
"""


def test_code_that_was_compiled_now_computes_what_kept_code_does(tmp_path):
    """To the last bit, for which no kernel may call a function that another one has compiled in another way."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SAMPLED]
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert list(tmp_path.rglob("*.nbc"))
    assert second.stdout == first.stdout
