"""The place that options name: a device, and the number format that suits it."""

from pathlib import Path

import pytest
import torch

from lumirkit.base.errors import RequestError
from lumirkit.registration import device
from lumirkit.registration.device import Place, choose_place, has_bfloat16_units
from lumirkit.registration.precision import Precision

CPU = torch.device("cpu")
CPU_FLAGS = Path("/proc/cpuinfo")


def has_units(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "amx_bf16": True}, Precision.BFLOAT16),
        ({"avx512_bf16": True}, Precision.BFLOAT16),
        ({"avx512_f": True, "avx512_bf16": False}, Precision.FLOAT32),
        ({}, Precision.FLOAT32),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_units_for_it(monkeypatch, capabilities, expected):
    has_units(monkeypatch, **capabilities)
    assert choose_place("cpu", "auto", pytest.fail) == Place(CPU, expected)
    assert choose_place("cpu", "float32", pytest.fail) == Place(CPU, Precision.FLOAT32)


@pytest.mark.skipif(not CPU_FLAGS.exists(), reason="the system does not list the processor's flags")
def test_what_the_processor_says_is_what_the_system_lists():
    """An independent list: the flags of Linux."""
    flags = CPU_FLAGS.read_text().split()
    assert has_bfloat16_units(CPU) == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def test_bfloat16_without_units_is_done_with_a_warning_of_what_it_costs(monkeypatch):
    has_units(monkeypatch)
    monkeypatch.setattr(device, "_layer_seconds", lambda _, dtype: 0.3 if dtype is torch.bfloat16 else 0.2)
    said = []
    assert choose_place("cpu", "bfloat16", said.append).precision is Precision.BFLOAT16
    assert len(said) == 1
    assert "a convolution takes 1.5 times the time of float32" in said[0]
    has_units(monkeypatch, avx512_bf16=True)
    assert choose_place("cpu", "bfloat16", pytest.fail).precision is Precision.BFLOAT16


def test_a_layer_is_timed():
    assert 1e-4 < device._layer_seconds(CPU, torch.float32) < 60


def test_what_is_no_number_format_is_refused():
    with pytest.raises(RequestError, match="convolutions: found 'int8'; expected one of auto, float32, bfloat16"):
        choose_place("cpu", "int8", pytest.fail)
