"""Fixtures that several folders share; all data is generated."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Threads without work sleep; by default they take a core from another worker while they wait for the next small kernel.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: a thread each, which torch reads at its import
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
import shapes  # noqa: F401  it checks the shapes of what is imported after it
import torch
from hypothesis import settings
from numba.np.ufunc.parallel import _launch_threads

from lumirkit.commands.main import main
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.phantoms.dataset import make_dataset
from lumirkit.registration.architecture import NetworkConfig, make_network
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.weights import WeightsCard, save_weights

if "PYTEST_XDIST_WORKER" in os.environ:  # Numba's first loop would give torch its own number of threads, at any time
    _launch_threads()
    torch.set_num_threads(1)

# The first call of a compiled kernel takes a second; no test here is about speed.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Leave no test with another number of threads than the first one had: torch's convolutions round by it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _shapes_unchecked(request: pytest.FixtureRequest):
    """Let a test marked `wrong_shapes` see how a function itself refuses arrays that its annotations do not allow."""
    unchecked = request.node.get_closest_marker("wrong_shapes") is not None
    jaxtyping.config.update("jaxtyping_disable", unchecked)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


TINY_NETWORK = SITRegConfig(resolution_vox=2, feature_channels=(4, 4), update_channels=(4, 4))


@pytest.fixture
def lumirkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in this process, which saves the seconds of its imports; returns what a process would."""

    def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["lumirkit", *map(str, arguments)])
        on_sigterm = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset in the challenge's layout; to be read only."""
    root = tmp_path_factory.mktemp("phantom")
    root.chmod(0o755)  # mounted into containers that run as another user
    make_dataset(root, PhantomSpec(shape=(32, 40, 34), n_train=4, pairs_per_split=1))
    return root


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory):
    """Write weights of a network that moves things by voxels although nobody trained it."""

    def make(seed: int = 0, network: NetworkConfig = TINY_NETWORK, recipe: dict[str, Any] | None = None) -> Path:
        torch.manual_seed(seed)
        model = make_network(network)
        last_layers = [update.head for update in model.updates] if isinstance(model, SITReg) else [model.head[-1]]
        for layer in last_layers:
            torch.nn.init.normal_(layer.weight, std=0.3)
        path = tmp_path_factory.mktemp("weights") / f"random_{seed}.safetensors"
        save_weights(path, model, WeightsCard(network=network, recipe=recipe or {}, seed=seed, steps=0))
        return path

    return make


@pytest.fixture(scope="module")
def dask_cluster():
    """A scheduler of Dask's and two worker processes, as many threads each as the tests have; it gives up soon."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=torch.get_num_threads(), dashboard_address=None) as cluster,
    ):
        yield cluster


@pytest.fixture
def dask_client(dask_cluster):
    """A client of this cluster."""
    from distributed import Client

    with Client(dask_cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        yield client
