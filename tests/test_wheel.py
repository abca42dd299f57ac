"""The wheel, installed into a bare environment: it holds the package and all its data, and needs no clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from lumirkit.registration.volume import read_displacement

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("registration", "data_manifests", "train", "eval", "submission")
OF_THE_USER = ("train.py", "eval/__init__.py", "registration.py", "submission.py")


def run(*command, folder=REPOSITORY):
    """What a command prints; the environment says nothing of the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    """The files that git knows."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("the tests do not lie in a git clone, whose files the wheel is built of")
    names = [Path(name) for name in run("git", "ls-files", "-z").split("\0") if name]
    return [name for name in names if (REPOSITORY / name).exists()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory):
    """Built of a copy of these files, so that nothing else which lies in the clone gets into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name, follow_symlinks=False)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel alone; what it depends on is read from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    assert sorted(path.name.split("-")[0] for path in site.iterdir()) == ["lumirkit", "lumirkit"]
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for compiled in REPOSITORY.glob("*/*/__pycache__/*.nb[ci]"):  # kernels that are compiled already save minutes
        place = site / "lumirkit" / compiled.relative_to(REPOSITORY)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(compiled, place)
    return folder / "bin"


@pytest.fixture
def own_folder(tmp_path):
    """A folder of the user's whose files are named like rooms of the kit, and must not be imported."""
    for name in OF_THE_USER:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise ImportError('the user has {name} for something else')\n")
    return tmp_path


def test_it_holds_the_package_and_all_its_data(tracked, wheel):
    expected = {Path("lumirkit") / name for name in tracked if name.parts[0] in ROOMS}
    expected |= {name for name in tracked if name.parts[0] == "lumirkit" and not (REPOSITORY / name).is_symlink()}
    expected -= {Path("lumirkit/submission/requirements.txt")}  # of the image, which is built from a clone
    # Weights with a licence other than the wheel's stay in the clone.
    expected = {name for name in expected if not name.is_relative_to("lumirkit/submission/weights_nc")}
    with ZipFile(wheel) as opened:
        names = {Path(name) for name in opened.namelist()}
    metadata = {name for name in names if name.parts[0].endswith(".dist-info")}
    assert names - metadata == expected


def test_it_registers_and_scores(environment, own_folder, phantom_root, make_weights):
    lumirkit, weights = environment / "lumirkit", ("--weights", make_weights())
    run(lumirkit, "predict", "--dataset", phantom_root, "--out", "fields", *weights, folder=own_folder)
    for field in (own_folder / "fields").glob("*.nii.gz"):
        assert np.isfinite(read_displacement(field, (32, 40, 34))).all()
    scored = ("--fields", "fields", "--out", "metrics.json")
    printed = run(lumirkit, "evaluate", "--ground-truth", phantom_root, *scored, folder=own_folder)
    assert "Dice" in printed
    assert (own_folder / "metrics.json").exists()


def test_it_trains_a_shipped_recipe_by_torchrun(environment, own_folder, phantom_root):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "lumirkit")
    options = ("--data", phantom_root, "--out", "run", "--minutes", 0.001)
    run(environment / "python", *torchrun, "train", "demo", *options, folder=own_folder)
    assert (own_folder / "run" / "weights" / "demo_seed0.safetensors").exists()
