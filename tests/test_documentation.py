"""Every command of the README and of the pages is run, on the demo's data; long ones with a budget of seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine_left import left_as_found

from lumirkit.submission.container.engine import connect

REPOSITORY = Path(__file__).resolve().parents[1]
INSTALLATION = "pip install -c constraints.txt -e ."  # tests/test_wheel.py installs the kit
SECONDS = 3  # of a training; a step more than that is finished


_FIRST = [REPOSITORY / "README.md", REPOSITORY / "docs" / "tutorial.md"]  # what they make, the other pages use
PAGES = [*_FIRST, *sorted({*(REPOSITORY / "docs").rglob("*.md")} - {*_FIRST})]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def commands_of_all_pages() -> list[str]:
    """The lines of all shell blocks, each once, without comments, continued lines joined."""
    text = "\n".join(TEXTS.values()).replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [" ".join(line.split("  #")[0].split()) for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


def example(language: str) -> str:
    """The one block of a language in all pages."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", "\n".join(TEXTS.values()), re.MULTILINE | re.DOTALL)
    return str(block)


COMMANDS = commands_of_all_pages()
OF_DOCKER = [line for line in COMMANDS if line.startswith(("docker ", "lumirkit container "))]
OF_MAKE = [line for line in COMMANDS if line.startswith("make ")]
OTHERS = [line for line in COMMANDS if line not in (*OF_DOCKER, *OF_MAKE) and line != INSTALLATION]


@pytest.fixture(scope="module")
def demo() -> Path:
    folder = os.environ.get("LUMIRKIT_DEMO")
    if not folder:
        pytest.skip("LUMIRKIT_DEMO names no folder that `make demo` has made")
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def clone(demo, tmp_path_factory) -> Path:
    """A folder that looks like a clone after `make demo`, with the dataset LUMIR beside it, where runs may be left."""
    root = tmp_path_factory.mktemp("clone")
    root.chmod(0o755)
    for name in ("train", "registration", "eval", "submission", "data_manifests", "lumirkit"):
        (root / name).symlink_to(REPOSITORY / name)
    (root / "runs").mkdir()
    (root / "runs" / "demo").symlink_to(demo)
    (root / "LUMIR").symlink_to(demo / "data")
    names = {
        "fixed": "imagesVal/LUMIRMRI_3455",
        "moving": "imagesVal/LUMIRMRI_3454",
        "labels": "labelsVal/LUMIRMRI_3454",
    }
    for name, source in names.items():
        (root / f"{name}.nii.gz").symlink_to(demo / "data" / f"{source}_0000.nii.gz")
    (root / "idea.yaml").write_text(example("yaml"))
    return root


def within_seconds(line: str) -> str:
    """A command with a budget of time, if it trains."""
    if not any(word in line for word in (" train ", " ablation ")):
        return line
    return re.sub(r" --minutes \S+", "", line) + f" --minutes {SECONDS / 60}"


def run_in(folder: Path, line: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, f"{line}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}"
    return finished.stdout


@pytest.mark.parametrize("line", OTHERS)
def test_a_command_of_a_page(line, clone):
    run_in(clone, within_seconds(line))


def test_the_python_example(clone):
    (clone / "example.py").write_text(example("python"))
    run_in(clone, "python example.py")
    assert (clone / "runs" / "for_ants_from_python.nii.gz").is_file()


def test_what_make_does_is_run_by_ci():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert OF_MAKE
    assert all(line in ci for line in OF_MAKE)


def test_the_pages_show_every_command_of_the_program(clone):
    listed = re.findall(r"^│ (\w+) ", run_in(clone, "COLUMNS=120 lumirkit --help"), re.MULTILINE)
    shown = {word for line in COMMANDS for word in re.findall(r"lumirkit(?:\.command)? (\w+)", line)}
    assert shown >= {*listed} - {"demo"}  # which `make demo` calls


def test_the_row_of_an_idea_can_be_planned(tmp_path):
    from lumirkit.ablation.plan import load_ablation

    (tmp_path / "idea.yaml").write_text(example("yaml"))
    ablation = load_ablation(tmp_path / "idea.yaml", REPOSITORY / "train" / "recipes" / "lite.yaml")
    windows = [{stage.losses.ncc_window_vox for stage in row.runs[0].recipe.stages} for row in ablation.rows]
    assert windows == [{7}, {5}]


def test_the_readme_is_short():
    assert len(TEXTS[REPOSITORY / "README.md"].splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_links_to_is_there(page):
    made = ("reference/commands.md", "reference/recipes.md")  # when the pages are built
    for target in re.findall(r"\]\(([^)#]+)", TEXTS[page]):
        if not target.startswith("https://") and not target.endswith(made):
            assert (page.parent / target).exists(), target


@pytest.mark.docker
def test_the_container_commands_of_the_pages(demo, tmp_path):
    """In their order, with the base image of this machine; from the clone, which is what an image is built of."""
    base = os.environ.get("LUMIRKIT_BASE_IMAGE")
    if not base:
        pytest.skip("LUMIRKIT_BASE_IMAGE names no base image to build on")
    if not demo.is_relative_to(REPOSITORY):
        pytest.skip("the demo lies outside the clone, and the image is built of weights inside it")
    tmp_path.chmod(0o777)
    (tmp_path / "plain").mkdir(mode=0o777)
    with left_as_found(connect(), ["mine"]):
        run_container_commands(demo, tmp_path, base)
    assert len(list((tmp_path / "plain").glob("disp_*.nii.gz"))) == len(list((demo / "fields").glob("disp_*.nii.gz")))


def run_container_commands(demo: Path, tmp_path: Path, base: str) -> None:
    for line in OF_DOCKER:
        line = line.replace("$PWD/LUMIR", f"{demo}/data").replace("--dataset LUMIR", f"--dataset {demo}/data")
        line = line.replace("$PWD/runs/plain", f"{tmp_path}/plain").replace("--out runs/", f"--out {tmp_path}/")
        line = line.replace("runs/demo", str(demo.relative_to(REPOSITORY)))
        if line.startswith("lumirkit container build"):
            line += f' --base-image {base} --torch-index ""'
        if line.startswith("docker build"):
            line = line.replace(
                "build ", f"build --network=host --build-arg BASE_IMAGE={base} --build-arg TORCH_INDEX= ", 1
            )
        run_in(REPOSITORY, line)
