"""Commands where a machine is not as usual: no HOME, names with spaces and accents, a read-only install."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lumirkit.commands import main
from lumirkit.commands.main import app
from lumirkit.submission.status import RunStatus


@pytest.fixture
def place(phantom_root, make_weights, tmp_path):
    """A folder with a dataset and weights, whose names have spaces and accents."""
    place = tmp_path / "Données du père Noël, 2e série"
    shutil.copytree(phantom_root, place / "mes images")
    shutil.copy(make_weights(), place / "poids à moi.safetensors")
    return place


@pytest.fixture
def read_only_install(tmp_path):
    """A copy of the package where no machine code can be kept.

    Each `__pycache__` is a file: root, who may run the tests, writes into folders that are read-only for others.
    """
    root = tmp_path / "site-packages"
    shutil.copytree(Path(main.__file__).parents[1], root / "lumirkit", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (root / "lumirkit", *(path for path in (root / "lumirkit").rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("no folder")
    return root


def commands(fields):
    """From predicting to the table."""
    return (
        ("predict", "--dataset", "mes images", "--weights", "poids à moi.safetensors", "--out", fields),
        ("evaluate", "--ground-truth", "mes images", "--fields", fields, "--out", f"{fields}/résultats.json"),
        ("table", f"à moi={fields}/résultats.json", "--out", f"{fields}/table à lire.md"),
    )


def made(folder):
    """The fields (pair, X, Y, Z, 3) and the table that these commands write."""
    table = (folder / "table à lire.md").read_text(encoding="utf-8")
    return np.stack([nib.load(path).get_fdata() for path in sorted(folder.glob("disp_*.nii.gz"))]), table


ALL_IN_ONE = """
import json, sys
from lumirkit.commands.main import app
for arguments in json.loads(sys.argv[1]):
    app(arguments, standalone_mode=False)
print(sys.modules["lumirkit"].__file__)
"""


def test_without_home_on_a_read_only_install_and_where_names_have_accents(
    place, read_only_install, lumirkit, monkeypatch
):
    """Kernels are compiled for each process where their code can be kept nowhere, and compute the same."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(place)
    for arguments in commands("champs"):
        done = lumirkit(*arguments)
        assert done.returncode == 0, done.stderr
    fields, table = made(place / "champs")
    assert len(fields) == 4
    assert "à moi" in table
    before = sorted(path for path in read_only_install.rglob("*"))
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    nowhere |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(torch.get_num_threads()))  # rounding
    done = subprocess.run(
        [sys.executable, "-c", ALL_IN_ONE, json.dumps(commands("là-bas"))],
        env=os.environ | nowhere | {"PYTHONPATH": str(read_only_install)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(read_only_install / "lumirkit" / "__init__.py")
    other_fields, other_table = made(place / "là-bas")
    np.testing.assert_allclose(other_fields, fields, atol=1e-5)
    assert other_table == table
    assert sorted(path for path in read_only_install.rglob("*")) == before


def test_folders_whose_names_are_no_text(phantom_root, make_weights, tmp_path):
    """Latin-1 on a disk that another system wrote: a pair that fails costs no other, and what is written is UTF-8."""
    data = tmp_path / os.fsdecode(b"lat\xe9")
    shutil.copytree(phantom_root, data)
    (data / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz").write_bytes(b"no image")

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    assert run("predict", "--dataset", data, "--weights", make_weights(), "--out", data / "out").exit_code == 1
    assert len(list((data / "out").glob("disp_*.nii.gz"))) == 3
    account = RunStatus.model_validate_json((data / "out" / "lumirkit_status.json").read_bytes())
    assert [pair.reason.partition(":")[0] for pair in account.failures] == [
        str(tmp_path / "lat\ufffd" / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz")
    ]
    assert run("manifest", "check", data, "--json", tmp_path / "findings.json").exit_code == 1
    assert "lat\ufffd" in (tmp_path / "findings.json").read_text(encoding="utf-8")

    shutil.copy(phantom_root / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz", data / "imagesVal")
    fields = data / os.fsdecode(b"z\xe9ro")
    assert run("baseline", "zero", "--dataset", data, "--out", fields).exit_code == 0
    page = tmp_path / "page.html"
    assert run("report", "--ground-truth", data, "--fields", fields, "--pairs", 0, "--out", page).exit_code == 0
    assert "z\ufffdro" in page.read_text(encoding="utf-8")
