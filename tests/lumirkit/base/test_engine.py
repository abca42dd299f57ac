"""Work side by side: in processes of this machine and on a real cluster of Dask's, whose workers are killed."""

import time
from functools import partial

import pytest
from deadly_work import claimed, refuse, square_unless

from lumirkit.base.engine import Cluster, Lost, Processes, WorkersLostError, engine_for
from lumirkit.base.errors import RequestError

NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def cluster(dask_cluster):
    with engine_for(1, dask_cluster.scheduler_address) as engine:
        yield engine


def test_what_kills_its_worker_again_and_again_is_lost_and_nothing_beside_it(cluster):
    assert isinstance(cluster, Cluster)
    outcomes = dict(cluster.outcomes(partial(square_unless, 3), range(6)))
    lost = outcomes.pop(3)
    assert outcomes == {number: number**2 for number in (0, 1, 2, 4, 5)}
    assert isinstance(lost, Lost)
    assert "the worker died each time this was done, at last tcp://127.0.0.1:" in lost.reason


def test_a_worker_that_cannot_do_the_work_is_told_of(cluster):
    ((position, lost),) = cluster.outcomes(refuse, [7])
    assert position == 0
    assert "(ModuleNotFoundError: no module for 7)" in lost.reason


def test_processes_of_this_machine_give_the_same_and_one_that_is_killed_ends_them():
    for processes in (Processes(1), Processes(2)):
        outcomes = dict(processes.outcomes(partial(square_unless, None), range(6)))
        assert outcomes == {number: number**2 for number in range(6)}
    with pytest.raises(WorkersLostError, match="a worker process was killed"):
        list(Processes(2).outcomes(partial(square_unless, 3), range(6)))


def test_every_process_has_a_device_of_its_own(tmp_path):
    devices = ("cuda:0", "cuda:1")
    outcomes = [outcome for _, outcome in Processes(2).outcomes(partial(claimed, tmp_path, devices), range(20))]
    device_of = {process: device for device, process in outcomes}
    assert len(device_of) == len(set(device_of.values())) > 0
    assert set(device_of.values()) <= set(devices)


def test_where_nobody_answers_the_request_is_refused_within_seconds():
    start = time.monotonic()
    with pytest.raises(RequestError, match="found no Dask scheduler that answers within 5 s"), engine_for(1, NOBODY):
        pytest.fail("nobody is there")
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("address", ["node1", "http://a:1", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(RequestError, match="--cluster"), engine_for(1, address):
        pytest.fail("nobody is there")


def test_workers_here_and_there_are_not_asked_for_together():
    with pytest.raises(RequestError, match="found --workers 2 beside --cluster"), engine_for(2, NOBODY):
        pytest.fail("one of both")
