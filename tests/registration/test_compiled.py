"""When machine code is kept, when it is not, and when it is made again."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from registration.compiled import compiled, compiled_loops


def double(x):
    return 2 * x


def test_a_read_only_installation_compiles_without_keeping(monkeypatch):
    njit = numba.njit

    def without_cache(*functions, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available for file 'x.py'")
        return njit(*functions, **options)

    monkeypatch.setattr(numba, "njit", without_cache)
    assert compiled(double)(21) == 42


def test_other_errors_are_not_hidden(monkeypatch):
    def broken(*functions, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        compiled(double)


KERNEL = """
from registration.compiled import compiled
from helper import factor

@compiled
def scaled(x):
    return factor() * x

if __name__ == "__main__":
    print(scaled(21), sum(scaled.stats.cache_hits.values()))
"""
HELPER = """
from registration.compiled import compiled

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
