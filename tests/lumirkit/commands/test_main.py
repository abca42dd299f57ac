"""The program as a whole: what it imports, how fast it answers, and what it says of errors."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from lumirkit.base import extras
from lumirkit.base.errors import RequestError
from lumirkit.commands import main as program
from lumirkit.train.shipped_recipes import RECIPES, find_recipe

# Not pydantic, which typer itself takes for some options.
HEAVY = ("torch", "numpy", "pandas", "scipy", "matplotlib", "nibabel", "docker", "omegaconf", "jaxtyping")
IMPORTED = """
import sys
from lumirkit.commands.main import main
try:
    main()
finally:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture
def run(lumirkit):
    """Run the command in this process; gives exit status and standard error."""

    def call(*arguments):
        ended = lumirkit(*arguments)
        return ended.returncode, ended.stderr

    return call


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("train", "--help"), 0),
        (("bench", "forward", "--help"), 0),
        (("no-such-command",), 2),
        (("register", "--no-such-option"), 2),
    ],
)
def test_help_and_wrong_arguments_import_nothing_heavy(arguments, status):
    code = IMPORTED.format(heavy=HEAVY)
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == status
    assert ended.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RequestError("no such thing"), 2, "error: no such thing\n"),
        (OSError("the disk is full"), 1, "error: the disk is full\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_end_with_their_status(run, monkeypatch, error, status, said):
    def fail():
        raise error

    monkeypatch.setattr(program, "app", fail)
    assert run() == (status, said)


def test_names_that_are_no_text_can_be_printed(monkeypatch, capsys):
    monkeypatch.setattr(program, "app", lambda: print("report:", os.fsdecode(b"lat\xe9")))
    program.main()
    assert capsys.readouterr().out == "report: lat\\udce9\n"


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("report", "--out", "page.html"), "matplotlib", "report"),
        (("container", "verify", "image"), "docker", "container"),
        (("train", "demo", "--data", "data", "--out", "out"), "omegaconf", "train"),
        (("ablation", "ablation_table1", "--data", "data", "--out", "out"), "omegaconf", "train"),
        (("synthetic", "demo", "--out", "sheet.png"), "omegaconf", "train"),
        (("bench", "forward"), "omegaconf", "train"),
        (("demo",), "omegaconf", "train"),
    ],
)
def test_a_missing_extra_is_named(run, monkeypatch, tmp_path, arguments, package, extra):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "version", not_installed)
    status, said = run(*arguments)
    assert status == 2
    how = f"install the extra, in the kit's folder: pip install -e '.[{extra}]'"
    expected = f"error: lumirkit {arguments[0]} needs {package}; {how}\n"
    assert said == expected
    assert not any(tmp_path.iterdir())


def test_recipes_are_named_by_a_path_or_a_shipped_name(run, tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("name: own\n")
    monkeypatch.chdir(tmp_path)
    assert find_recipe("lumir25") == RECIPES / "lumir25.yaml"
    assert find_recipe("ablation_table1") == RECIPES / "ablation_table1.yaml"
    assert str(find_recipe("own.yaml")) == "own.yaml"
    status, said = run("train", "lumir26", "--data", tmp_path, "--out", tmp_path / "out")
    assert status == 2
    assert said.startswith("error: lumir26: no such recipe; expected a file (.yaml) or one of the shipped ones: ")
    assert " lite, lumir25," in said


def test_a_measurement_takes_nothing_from_the_folder_it_is_called_in(tmp_path, monkeypatch):
    from lumirkit.bench.child import measure_in_child
    from lumirkit.bench.kinds import Kind
    from lumirkit.bench.work import Work
    from lumirkit.registration.sitreg import SITRegConfig

    for name in ("random", "train", "eval", "registration", "lumirkit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    monkeypatch.chdir(tmp_path)
    work = Work(kind=Kind.READ_NII, shape=(16, 16, 16), network=SITRegConfig(), repeats=1)
    assert measure_in_child(work, threads=1).seconds.median > 0


def test_it_says_its_version(lumirkit):
    ended = lumirkit("--version")
    assert ended.returncode == 0
    assert ended.stdout == f"lumirkit {version('lumirkit')}\n"
