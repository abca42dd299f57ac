"""When machine code is kept, when it is not, and when it is made again."""

import errno
import importlib
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile, InTreeCacheLocator

from lumirkit.base.compiled import compiled, compiled_loops

KERNEL = """
from lumirkit.base.compiled import compiled
from helper import factor

@compiled
def scaled(x):
    return factor() * x

if __name__ == "__main__":
    print(scaled(21), sum(scaled.stats.cache_hits.values()))
"""
HELPER = """
from lumirkit.base.compiled import compiled

@compiled
def factor():
    return {}
"""


def test_machine_code_is_kept_until_a_file_beside_it_changes(tmp_path):
    def run():
        command = [sys.executable, "kernel.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "helper.py").write_text(HELPER.format(2))
    assert run() == ["42", "0"]
    assert run() == ["42", "1"]
    (tmp_path / "helper.py").write_text(HELPER.format(3))
    assert run() == ["63", "0"]


@pytest.fixture
def kernel_in_a_read_only_folder(tmp_path):
    """Whether that folder can be written must not depend on who runs the tests: its `__pycache__` is a file."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "helper.py").write_text(HELPER.format(2))
    (tmp_path / "__pycache__").write_text("no folder")

    def run(**environment):
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
        command = [sys.executable, "kernel.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.split()

    return run


def test_nothing_that_can_be_written_means_compiling_again(kernel_in_a_read_only_folder):
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull}
    assert kernel_in_a_read_only_folder(**nowhere) == ["42", "0"]
    assert kernel_in_a_read_only_folder(**nowhere) == ["42", "0"]


def test_the_user_s_folder_is_the_second_place(kernel_in_a_read_only_folder, tmp_path):
    place = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    assert kernel_in_a_read_only_folder(**place) == ["42", "0"]
    assert kernel_in_a_read_only_folder(**place) == ["42", "1"]


def test_code_left_in_a_folder_that_cannot_be_written_is_used(tmp_path, monkeypatch):
    """As in a container: made at its build, read by a user who may write nothing."""
    calls = []

    def refuse(self):
        calls.append(self)
        raise OSError("read-only file system")

    source = "from lumirkit.base.compiled import compiled\n@compiled\ndef two():\n    return 2\n"
    (tmp_path / "left.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def fresh():
        sys.modules.pop("left", None)
        return importlib.import_module("left").two

    assert fresh()() == 2
    monkeypatch.setattr(InTreeCacheLocator, "ensure_cache_path", refuse)
    again = fresh()
    assert again() == 2
    assert sum(again.stats.cache_hits.values()) == 1
    assert calls


def test_a_full_disk_costs_the_code_and_not_the_call(tmp_path, monkeypatch):
    def fill(self, name, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "unsaved.py").write_text(
        "from lumirkit.base.compiled import compiled\n@compiled\ndef two():\n    return 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(IndexDataCacheFile, "_save_data", fill)
    assert importlib.import_module("unsaved").two() == 2


@compiled
def rounded_product_minus(a, b, c):
    return a * b - c


@compiled_loops
def loop(a, b, c, out):
    for i in numba.prange(out.size):
        out[i] = rounded_product_minus(a[i], b[i], c[i])


def test_plain_arithmetic_stays_plain_inside_a_kernel():
    """A fused a * b - c would leave the rounding error of the product."""
    a, b = np.random.default_rng(0).random((2, 100))
    out = np.empty(100)
    loop(a, b, a * b, out)
    assert not out.any()
