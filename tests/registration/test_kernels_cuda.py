"""The CUDA kernels against plain torch: in Numba's simulator, and on a GPU where there is one."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numba.cuda
import pytest
import torch
from numba import types

from lumirkit.registration import trust
from lumirkit.registration.inverse import invert
from lumirkit.registration.kernels import cuda, functions
from lumirkit.registration.kernels.dispatch import (
    geometry_of,
    geometry_serves,
    gpu_verdicts,
    kernels_serve,
    plain_torch,
)
from lumirkit.registration.warp import compose, sample

DTYPES = [torch.float32, torch.float64]
GPU = torch.device("cuda", 0)  # nothing is put there where the functions that compute are substituted

# What each kernel takes after shape and ticks: arrays, bools, ints and reals.
ARGUMENTS = {
    "_sample": "aabba",
    "_grad_volume": "aaba",
    "_grad_disp": "aaabba",
    "_invert": "arira",
    "_transposed_solve": "aaaa",
}

simulator = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="runs in a process of its own, started by test_in_the_simulator"
)
gpu_needed = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def in_simulator(monkeypatch):
    """CPU tensors get the CUDA kernels, which the simulator runs with a Python thread each, so few of them."""
    monkeypatch.setattr(cuda, "_BLOCK", (4, 2, 2))
    monkeypatch.setattr(functions, "geometry_of", lambda tensor: cuda)


@pytest.fixture
def first_use(monkeypatch):
    """The kernels have not been tried yet, and Numba finds a GPU."""
    monkeypatch.delitem(gpu_verdicts, (GPU, torch.float32), raising=False)
    monkeypatch.setattr(cuda, "available", lambda: True)
    yield
    gpu_verdicts.pop((GPU, torch.float32))


def test_in_the_simulator():
    """The tests marked `simulator`: Numba must find its variables before it is imported."""
    variables = {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}  # the simulator's arrays cannot be compiled for
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "simulated", __file__]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=os.environ | variables, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout, done.stdout


@simulator
@pytest.mark.parametrize("dtype", DTYPES)
def test_simulated_kernels_reproduce_plain_torch(in_simulator, dtype):
    assert trust.difference_from_plain_torch(torch.device("cpu"), dtype) is None


@simulator
@pytest.mark.parametrize(
    ("kernel", "of"),
    [
        ("sample", "sampling"),
        ("grad_volume", "sampling"),
        ("grad_disp", "sampling"),
        ("invert", "inversion"),
        ("transposed_solve", "inversion"),
    ],
)
def test_simulated_kernels_are_found_out_when_one_is_broken(in_simulator, monkeypatch, kernel, of):
    works = getattr(cuda, kernel)
    monkeypatch.setattr(cuda, kernel, lambda *arguments, **options: 1.001 * works(*arguments, **options))
    assert f"kernels of {of} are off" in trust.difference_from_plain_torch(torch.device("cpu"), torch.float32)


@simulator
def test_simulated_kernels_of_thin_grids_and_other_layouts(in_simulator):
    torch.manual_seed(0)
    for shape in ((1, 2, 3), (2, 1, 1), (1, 1, 35)):
        volume = torch.randn(1, 2, *shape[::-1], dtype=torch.float64).transpose(2, 4).requires_grad_()
        field = (2 * torch.randn(1, *shape, 3, dtype=torch.float64)).movedim(4, 1).requires_grad_()
        found = functions.Sample.apply(volume, field, True, False)
        with plain_torch():
            expected = sample(volume, field, "zeros")
        torch.testing.assert_close(found, expected)
        gradients = (torch.autograd.grad(out.square().sum(), (volume, field)) for out in (found, expected))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


def test_no_point_of_the_check_lies_where_rounding_could_decide_its_cell():
    _, wide, small = trust.inputs(torch.device("cpu"), torch.float64)
    for field in (wide, invert(small)):
        assert (field - field.round()).abs().min() > 1e-5


def test_kernels_that_differ_are_not_used_and_one_warning_says_so(first_use, monkeypatch):
    monkeypatch.setattr(
        trust, "difference_from_plain_torch", lambda device, dtype: "the CUDA kernels of X are off by 1"
    )
    with pytest.warns(RuntimeWarning, match="kernels of X are off by 1; plain torch is used on cuda:0 instead"):
        trust.try_kernels(GPU, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust.try_kernels(GPU, torch.float32)
    assert not gpu_verdicts[GPU, torch.float32]


def test_kernels_that_raise_are_not_used(first_use, monkeypatch):
    def raises(*arguments):
        raise OSError("no libnvvm")

    monkeypatch.setattr(trust, "difference_from_plain_torch", raises)
    with pytest.warns(RuntimeWarning, match=r"failed \(OSError: no libnvvm\); plain torch is used"):
        trust.try_kernels(GPU, torch.float32)
    assert not gpu_verdicts[GPU, torch.float32]


def test_without_a_usable_numba_there_is_a_hint_at_the_extra(first_use, monkeypatch):
    monkeypatch.setattr(cuda, "available", lambda: False)
    with pytest.warns(RuntimeWarning, match='the extra "cuda1[23]"'):
        trust.try_kernels(GPU, torch.float32)
    assert not gpu_verdicts[GPU, torch.float32]


def test_kernels_that_agree_are_used_without_a_word(first_use, monkeypatch):
    monkeypatch.setattr(trust, "difference_from_plain_torch", lambda device, dtype: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust.try_kernels(GPU, torch.float32)
    assert gpu_verdicts[GPU, torch.float32]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_kernels_of_a_gpu_serve_its_tensors_once_trusted(monkeypatch, trusted):
    on_gpu = SimpleNamespace(device=GPU, dtype=torch.float32)
    monkeypatch.delitem(gpu_verdicts, (GPU, torch.float32), raising=False)
    assert not geometry_serves(on_gpu, on_gpu)
    monkeypatch.setitem(gpu_verdicts, (GPU, torch.float32), trusted)
    assert geometry_serves(on_gpu, on_gpu) == trusted
    assert not kernels_serve(on_gpu)
    assert geometry_of(on_gpu) is cuda
    for other in (("cuda", 1, torch.float32), ("cpu", None, torch.float32), ("cuda", 0, torch.float64)):
        assert not geometry_serves(on_gpu, SimpleNamespace(device=torch.device(*other[:2]), dtype=other[2]))
    assert not geometry_serves(SimpleNamespace(device=on_gpu.device, dtype=torch.bfloat16))
    with plain_torch():
        assert not geometry_serves(on_gpu)


def nvvm_is_missing():
    try:
        numba.cuda.compile_ptx(lambda: None, types.void(), cc=(8, 0))
    except Exception:
        return True
    return False


@pytest.mark.skipif(nvvm_is_missing(), reason="no NVVM, or not all it needs; the extras `cuda12` and `cuda13` bring it")
@pytest.mark.parametrize("kernel", list(ARGUMENTS))
@pytest.mark.parametrize("real", [types.float32, types.float64])
def test_every_kernel_compiles_without_doubles_and_approximations(monkeypatch, kernel, real):
    """To PTX, which needs no GPU: float32 stays float32, and divisions are those of IEEE."""
    device = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    kinds = {"a": types.Array(real, 3, "C"), "b": types.boolean, "i": types.int64, "r": real}
    signature = types.void(types.UniTuple(types.int64, 3), real[::1], *(kinds[kind] for kind in ARGUMENTS[kernel]))
    ptx, _ = numba.cuda.compile_ptx(getattr(cuda, kernel).py_func, signature, cc=device.compute_capability)
    assert f".f{real.bitwidth}" in ptx
    assert "approx" not in ptx and ".ftz" not in ptx
    assert real is types.float64 or ".f64" not in ptx


@pytest.mark.gpu
@gpu_needed
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gpu_reproduces_plain_torch(dtype):
    assert cuda.available()
    assert trust.difference_from_plain_torch(GPU, dtype) is None


@pytest.mark.gpu
@gpu_needed
def test_a_gpu_reproduces_the_kernels_of_the_cpu_on_a_stream_of_its_own():
    torch.manual_seed(0)
    outer, inner, small = (torch.randn(2, 3, 33, 20, 41, dtype=torch.float64) for _ in range(3))
    small = 0.2 * small.clamp(-0.7, 0.7)
    trust.try_kernels(GPU, torch.float64)
    results = []
    for device in ("cpu", "cuda"):
        u, v, w = (tensor.to(device).requires_grad_() for tensor in (2 * outer, 2 * inner, small))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            assert geometry_serves(u, v)
            assert kernels_serve(u) == (device == "cpu")
            assert (geometry_of(u) is cuda) == (device == "cuda")
            total = compose(u, v).square().sum() + sample(u, v, "zeros").square().sum() + invert(w).square().sum()
            gradients = torch.autograd.grad(total, (u, v, w))
        stream.synchronize()
        results.append([total.detach().cpu(), *(gradient.cpu() for gradient in gradients)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
