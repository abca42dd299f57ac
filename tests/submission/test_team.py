"""Several processes that share the pairs of a run: what they write is what one writes alone, and none is lost."""

import json
import signal
import socketserver
import time
from threading import Thread

import forked
import pytest
import torch
from deadly_work import DeadlyImage

from lumirkit.base.engine import Cluster
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.device import Place
from lumirkit.submission.on_error import OnError
from lumirkit.submission.predict import predict_dataset
from lumirkit.submission.status import PairState, PairStatus, RunState
from lumirkit.submission.team import Team

CPU = Place(torch.device("cpu"))
DAMAGED = "LUMIRMRI_3455_0000.nii.gz"


@pytest.fixture
def many(dataset):
    """A dataset of 14 small pairs, of which those with one image fail."""
    json_path = find_dataset_json(dataset)
    content = json.loads(json_path.read_text())
    images = sorted({image for pair in content["validation"] for image in pair.values() if "_0000" in image})
    content["validation"] = [{"fixed": a, "moving": b} for a in images for b in images if a != b][:14]
    json_path.write_text(json.dumps(content))
    (dataset / "imagesVal" / DAMAGED).write_bytes(b"no image")
    return json_path


def told(status):
    """What the account says of each pair that does not depend on when it was done, and by whom."""
    return [(pair.case_name, pair.field, pair.state, pair.device, pair.reason, pair.warnings) for pair in status.pairs]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def test_a_cluster_writes_what_one_process_writes_although_a_worker_is_killed(
    many, make_weights, tmp_path, dask_cluster, dask_client
):
    weights, serial, shared = [make_weights()], tmp_path / "serial", tmp_path / "shared"
    one = predict_dataset(many, many.parent, serial, weights, CPU, on_error=OnError.ZERO)
    assert one.failures

    def kill_one():
        deadline = time.monotonic() + 60
        while len(list(shared.glob("disp*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        killed.append(dask_client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.workers)))
        next(iter(dask_cluster.workers.values())).process.process._process.kill()

    killed = []
    killer = Thread(target=kill_one)
    killer.start()
    team = Team(Cluster("here", dask_client), ("cpu",), "float32")
    many_hands = predict_dataset(many, many.parent, shared, weights, team, on_error=OnError.ZERO)
    killer.join()
    assert killed == [2]
    assert contents(shared) == contents(serial)
    assert told(many_hands) == told(one)
    assert many_hands.state is RunState.DONE_BUT_FAILURES
    written = json.loads((shared / "lumirkit_status.json").read_text())
    alone = json.loads((serial / "lumirkit_status.json").read_text())
    assert [pair["case_name"] for pair in written["pairs"]] == [pair["case_name"] for pair in alone["pairs"]]
    again = predict_dataset(many, many.parent, shared, weights, team, on_error=OnError.SKIP)
    assert [p.seconds for p in again.pairs if p.state is PairState.KEPT] == [
        p.seconds for p in many_hands.pairs if p.state is PairState.WRITTEN
    ]


def test_a_pair_that_kills_its_worker_each_time_fails_by_name(many, make_weights, tmp_path, dask_cluster, dask_client):
    first = json.loads(many.read_text())["validation"][0]["fixed"].rpartition("/")[2]
    content = json.loads(many.read_text())
    fine = [pair for pair in content["validation"] if DAMAGED not in str(pair) and first not in pair["fixed"]]
    content["validation"] = [content["validation"][0], fine[0]]
    many.write_text(json.dumps(content))
    (tmp_path / "deaths").mkdir()
    plugin = DeadlyImage(first, tmp_path / "deaths", times=99)
    dask_client.register_plugin(plugin, name="deadly")
    try:
        team = Team(Cluster("here", dask_client), ("cpu",), "float32")
        status = predict_dataset(many, many.parent, tmp_path / "out", [make_weights()], team)
    finally:
        dask_client.unregister_worker_plugin("deadly")
    assert [pair.state for pair in status.pairs] == [PairState.FAILED, PairState.WRITTEN]
    assert "the worker died each time" in status.failures[0].reason
    assert list(contents(tmp_path / "out")) == [status.pairs[1].field]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_of_this_machine_do_the_same_and_sigterm_ends_them(many, make_weights, tmp_path, lumirkit):
    weights, serial, out = make_weights(), tmp_path / "serial", tmp_path / "out"
    one = predict_dataset(many, many.parent, serial, [weights], CPU)
    options = ("--dataset", many, "--weights", weights, "--workers", 2, "--device", "cpu", "--convolutions", "float32")
    started = forked.lumirkit(tmp_path / "said", "predict", *options, "--out", out)
    started.wait_until(lambda: len(list(out.glob("disp*"))) >= 3)
    started.send(signal.SIGTERM)
    assert started.wait() == 143, started.said
    assert not list(out.glob(".*"))
    status = json.loads((out / "lumirkit_status.json").read_text())
    assert status["state"] == "stopped"
    assert 1 <= len(status["pairs"]) < 14
    done = lumirkit("predict", *options, "--out", out)
    assert done.returncode == 1, done.stderr
    assert contents(out) == contents(serial)
    pairs = [PairStatus(**pair) for pair in json.loads((out / "lumirkit_status.json").read_text())["pairs"]]
    assert [pair.case_name for pair in pairs] == [pair.case_name for pair in one.pairs]
    assert {pair.case_name for pair in pairs if pair.has_failed} == {pair.case_name for pair in one.failures}


@pytest.fixture
def other_server():
    """The address of a server that is no scheduler."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_cluster_that_does_not_answer_is_refused_in_one_sentence(
    many, tmp_path, make_weights, lumirkit, other_server
):
    options = ("--dataset", many, "--weights", make_weights(), "--out", tmp_path / "out")
    for address in ("tcp://127.0.0.1:9", "nonsense", other_server):
        ended = lumirkit("predict", *options, "--cluster", address)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"error: --cluster {address}: found no Dask scheduler")
        assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
