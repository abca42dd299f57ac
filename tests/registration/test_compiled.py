"""Compiling where no machine code can be kept."""

import numba
import pytest

from registration.compiled import compiled


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
