"""Numbers of threads under a CPU limit, as control groups of both versions state it."""

import os

import pytest

from lumirkit.base.threads import keep_to_cpu_limit

COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name in COUNTS:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)


def limited(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    keep_to_cpu_limit(folder)
    return [os.environ.get(name) for name in COUNTS]


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"cpu.max": "400000 100000\n"}, "4"),
        ({"cpu.max": "150000 100000\n"}, "2"),
        ({"cpu.max": "10000 100000\n"}, "1"),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "9900000 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3"),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_limit_is_the_number_of_threads(tmp_path, files, threads):
    assert limited(tmp_path, files) == [threads, threads]


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert limited(tmp_path, {"cpu.max": "400000 100000\n"}) == ["8", "4"]
