"""Numbers of threads under a CPU limit, as control groups of both versions state it; threads beside other work."""

import os
import sys

import pytest

from lumirkit.base.threads import give_way_to_others, keep_to_cpu_limit

COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delitem(sys.modules, "numba", raising=False)  # as in a command that begins
    for name in COUNTS + WAITING:
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


def test_a_number_for_openmp_holds_for_numba_too(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert limited(tmp_path, {}) == ["3", "3"]


@pytest.mark.parametrize(
    ("account", "rounds"),
    [
        ("0.01 0.62 1.51 1/103 19897\n", None),
        ("0.01 0.62 1.51 2/103 19897\n", "10000"),
        ("9.00 8.00 7.00 70/940 19897\n", "10000"),
        ("nothing of the kind", None),
    ],
)
def test_threads_that_wait_leave_their_cores_where_others_compute(tmp_path, account, rounds):
    load = tmp_path / "loadavg"
    load.write_text(account)
    give_way_to_others(load)
    assert os.environ.get("GOMP_SPINCOUNT") == rounds
    give_way_to_others(tmp_path / "none")  # as on a system that keeps no such account


def test_a_way_to_wait_that_the_user_has_set_stays(tmp_path, monkeypatch):
    load = tmp_path / "loadavg"
    load.write_text("0 0 0 5/9 1\n")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    give_way_to_others(load)
    assert "GOMP_SPINCOUNT" not in os.environ


def test_numba_s_number_stays_once_it_is_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert limited(tmp_path, {"cpu.max": "400000 100000\n"}) == ["3", None]
