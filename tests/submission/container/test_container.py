"""The real container: built from the Dockerfile, examined, killed, packed; and the examination's own examination."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from engine_left import left_as_found

from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.registration.device import choose_place
from lumirkit.registration.refinement.settings import chosen_refinement
from lumirkit.registration.volume import read_displacement
from lumirkit.submission.container.build import build_image
from lumirkit.submission.container.engine import Conditions, ContainerError, Mount, connect, find_image, run, started
from lumirkit.submission.container.exam import Exam
from lumirkit.submission.container.exam_data import make_exam_data
from lumirkit.submission.predict import predict_dataset

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGE = "lumirkit-test"
FOREIGN_USER = 12345
# Larger than the demo's images, so that a signal comes while pairs are left to do.
EXAM_SHAPE = (64, 80, 64)


@pytest.fixture(scope="module")
def client():
    try:
        engine = connect()
    except ContainerError as error:
        pytest.skip(str(error))
    with left_as_found(engine, [IMAGE]):
        yield engine


@pytest.fixture(scope="module")
def base_image():
    name = os.environ.get("LUMIRKIT_BASE_IMAGE")
    if not name:
        pytest.skip("LUMIRKIT_BASE_IMAGE names no base image to build on")
    return name


@pytest.fixture(scope="module")
def demo():
    """What `make demo` left: a container's directions can only be examined with weights that were trained."""
    folder = os.environ.get("LUMIRKIT_DEMO")
    if not folder:
        pytest.skip("LUMIRKIT_DEMO names no folder that `make demo` has made")
    return Path(folder)


@pytest.fixture(scope="module")
def image(client, base_image, demo):
    build_image(client, [demo / "weights"], IMAGE, base_image, torch_index="")
    return IMAGE


@pytest.fixture
def exam(client, image, tmp_path):
    tmp_path.chmod(0o755)
    data = make_exam_data(tmp_path / "data", EXAM_SHAPE)

    def results(tag=image, first=None):
        return {check.name: check for check in Exam(client, tag, data, tmp_path / tag.replace(":", "_")).take(first)}

    return results


def lumirkit(*arguments):
    command = [sys.executable, "-m", "lumirkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_passes_its_examination(exam):
    failed = {name: check.found for name, check in exam().items() if not check.passed}
    assert failed == {}


BROKEN = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
from lumirkit.registration import volume
from lumirkit.submission import entrypoint

WAYS = {
    "inverse": lambda field: -field,
    "transposed": lambda field: field[..., ::-1],
    "half-size": lambda field: field[::2, ::2, ::2] / 2,
}
real = volume.write_displacement

def write(path, field, affine, description=""):
    real(path, np.ascontiguousarray(WAYS["{way}"](field)), affine, description)

import lumirkit.submission.pair_maker
lumirkit.submission.pair_maker.write_displacement = write
entrypoint.main()
"""


@pytest.mark.parametrize(
    ("way", "noticed"),
    [
        ("inverse", {"direction: a known translation", "direction: a known rotation"}),
        ("transposed", {"direction: a known translation", "direction: a known rotation"}),
        ("half-size", {"shape, type and header", "direction: a known translation", "direction: a known rotation"}),
    ],
)
def test_an_image_with_wrong_fields_fails(client, image, exam, tmp_path, way, noticed):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "broken.py").write_text(BROKEN.replace("{way}", way))
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nCOPY broken.py /opt/broken.py\nENTRYPOINT ["python", "/opt/broken.py"]\n'
    )
    client.images.build(path=str(folder), tag=f"lumirkit-test:{way}", rm=True)
    results = exam(f"lumirkit-test:{way}", first=5)  # the fields themselves
    assert {name for name in noticed if results[name].passed} == set()
    assert results["names of the fields"].passed


def mounts(root, out):
    out.mkdir(exist_ok=True)
    out.chmod(0o777)
    listed = find_dataset_json(root)
    return [
        Mount(root, "/app/input"),
        Mount(listed, "/app/LUMIR25_dataset.json"),
        Mount(out, "/app/output", writable=True),
    ]


@pytest.mark.parametrize("steps", [0, 2])
def test_fields_equal_those_outside(client, image, demo, phantom_root, tmp_path, steps):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    conditions = Conditions(user=f"{FOREIGN_USER}:{FOREIGN_USER}", read_only=True)
    ended = run(client, image, ("--refine", str(steps)), mounts(phantom_root, inside), conditions)
    assert ended.status == 0, ended.printed
    listed = find_dataset_json(phantom_root)
    place = choose_place("cpu", "auto", pytest.fail)  # what the container chooses
    refinement = chosen_refinement(steps, None)
    predict_dataset(listed, phantom_root, outside, [demo / "weights"], place, refinement=refinement)
    for pair in read_dataset(listed).validation:
        fields = [read_displacement(folder / pair.field_name, (32, 40, 34)) for folder in (inside, outside)]
        np.testing.assert_array_equal(*fields)
    assert {path.stat().st_uid for path in inside.iterdir()} == {FOREIGN_USER}


def test_killed_ten_times_it_ends_with_the_same_bytes(client, image, exam, tmp_path):
    root, undisturbed, killed = tmp_path / "data", tmp_path / "undisturbed", tmp_path / "killed"
    listed = json.loads((root / "exam_dataset.json").read_text())
    images = sorted({name for pair in listed["validation"] for name in pair.values()})
    listed["validation"] = [{"fixed": a, "moving": b} for a in images for b in images if a != b]
    (root / "exam_dataset.json").write_text(json.dumps(listed))
    assert run(client, image, (), mounts(root, undisturbed)).status == 0
    rng = np.random.default_rng(0)
    for number in range(10):
        with started(client, image, (), mounts(root, killed)) as container:
            while len(list(killed.glob("*.nii.gz"))) < 2 * number + 1:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.5))
            container.kill()
    assert run(client, image, (), mounts(root, killed)).status == 0
    names = {path.name for path in undisturbed.iterdir()}
    assert {path.name for path in killed.iterdir()} == names
    assert len(names) == len(listed["validation"]) + 1  # and the account
    for name in names:
        if name.endswith(".nii.gz"):
            assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


def test_the_kernels_are_compiled_already(client, image):
    """Made at the build; a container that may write nothing would otherwise compile them for every run."""
    look = (
        "from pathlib import Path; from lumirkit.submission.warm_up import warm_up;"
        "from lumirkit.registration.kernels import diffusion, inverse;"
        "warm_up(Path('/opt/lumirkit/weights')); stats = [k.stats for k in (inverse.invert, diffusion._differentiate)];"
        "print(*(sum(s.cache_hits.values()) for s in stats), *(sum(s.cache_misses.values()) for s in stats))"
    )
    user = f"{FOREIGN_USER}:{FOREIGN_USER}"
    command = ("docker", "run", "--rm", "--network=none", "--read-only", "--user", user, "--entrypoint", "python")
    done = subprocess.run([*command, image, "-c", look], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "1", "0", "0"], done.stderr


def test_it_holds_the_pinned_versions_and_says_what_it_is(client, image):
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint", "python", image, "-m", "pip", "freeze"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = dict(line.split("==") for line in frozen if "==" in line)
    pinned = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    brought = {"pip", "setuptools", "wheel", "lumirkit"}  # the base image's and this package
    lower = {name.lower().replace("_", "-"): number for name, number in pinned.items()}
    for name, number in found.items():
        if name.lower() not in brought:
            assert number.split("+")[0] == lower[name.lower().replace("_", "-")], name
    assert not {"scipy", "pandas", "matplotlib", "docker"} & set(found), "what predicting does not need"
    labels = find_image(client, image).labels
    assert labels["org.opencontainers.image.version"] == version("lumirkit")
    assert len(labels["lumirkit.weights-sha256"]) == 64


def test_images_that_the_user_may_not_read_are_named(client, image, phantom_root, tmp_path):
    closed = shutil.copytree(phantom_root, tmp_path / "closed")
    listed = shutil.move(find_dataset_json(closed), tmp_path / "listed.json")
    closed.chmod(0o700)
    read = [Mount(closed, "/app/input"), Mount(Path(listed), "/app/LUMIR25_dataset.json")]
    conditions = Conditions(user=f"{FOREIGN_USER}:{FOREIGN_USER}")
    ended = run(client, image, (), [*read, Mount(tmp_path, "/app/output", writable=True)], conditions)
    assert ended.status == 2, ended.printed
    assert f"user {FOREIGN_USER} may not look there" in ended.printed


def test_an_output_that_the_user_may_not_write_is_named(client, image, phantom_root, tmp_path):
    closed = mounts(phantom_root, tmp_path / "out")
    (tmp_path / "out").chmod(0o755)
    ended = run(client, image, (), closed, Conditions(user=f"{FOREIGN_USER}:{FOREIGN_USER}"))
    assert ended.status == 2, ended.printed
    assert f"/app/output: is not writable for user {FOREIGN_USER}" in ended.printed


def test_a_build_without_weights_fails_with_the_reason(client, base_image, tmp_path):
    context = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        if (REPOSITORY / name).is_file() and not name.endswith(".safetensors"):
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, context / name)
    options = ("--network=host", "--force-rm", "--build-arg", f"BASE_IMAGE={base_image}", "--build-arg", "TORCH_INDEX=")
    built = subprocess.run(["docker", "build", *options, context], capture_output=True, text=True, check=False)
    assert built.returncode != 0
    assert "holds no .safetensors file" in built.stderr + built.stdout
    assert "Traceback" not in built.stderr + built.stdout


def test_the_package_holds_what_was_measured_and_its_fields_are_scored(client, image, demo, phantom_root, tmp_path):
    package = tmp_path / "submission.zip"
    packed = lumirkit("container", "package", image, "--dataset", phantom_root, "--out", package)
    assert packed.returncode == 0, packed.stderr
    with zipfile.ZipFile(package) as opened:
        assert sorted(opened.namelist()) == ["README.txt", "lumirkit-test.tar.gz", "validation_predictions.zip"]
        readme = opened.read("README.txt").decode()
        opened.extract("validation_predictions.zip", tmp_path)
    contents = json.loads(package.with_suffix(".cdx.json").read_text())
    assert f"sha256:{contents['metadata']['component']['hashes'][0]['content']}" == find_image(client, image).id
    assert contents["bomFormat"] == "CycloneDX"
    assert {"lumirkit", "torch", "numpy", "numba", "safetensors"} <= {each["name"] for each in contents["components"]}
    assert f"pkg:pypi/lumirkit@{version('lumirkit')}" in {each["purl"] for each in contents["components"]}
    assert re.search(r"Pairs measured: +4\n", readme), readme
    assert "s on average" in readme
    with zipfile.ZipFile(tmp_path / "validation_predictions.zip") as fields:
        fields.extractall(tmp_path)
    options = ("--ground-truth", phantom_root, "--fields", tmp_path / "validation_predictions")
    scored = lumirkit("evaluate", *options, "--out", tmp_path / "metrics.json")
    assert scored.returncode == 0, scored.stderr
    assert len(json.loads((tmp_path / "metrics.json").read_text())["cases"]) == 4
