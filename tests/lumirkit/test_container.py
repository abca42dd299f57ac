"""The real container: built from the Dockerfile and run under the challenge's conditions."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from data_manifests.dataset import find_dataset_json, read_dataset
from registration.volume import read_displacement
from submission.predict import predict_dataset

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[2]
FOREIGN_USER = 12345


def docker(*arguments):
    return subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def base_image():
    name = os.environ.get("LUMIRKIT_BASE_IMAGE")
    if not name:
        pytest.skip("LUMIRKIT_BASE_IMAGE names no base image to build on")
    if docker("info").returncode != 0:
        pytest.skip("no Docker engine answers")
    return name


@pytest.fixture(scope="module")
def build(base_image, tmp_path_factory):
    """Build the container with the given weight files, in a copy of the sources."""

    def build_image(tag, weights):
        context = tmp_path_factory.mktemp("context") / "source"
        tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        for name in tracked.stdout.splitlines():
            if (REPOSITORY / name).is_file():
                (context / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, context / name)
        for file in weights:
            shutil.copy(file, context / "submission" / "weights")
        return docker("build", "--network=host", "--build-arg", f"BASE_IMAGE={base_image}", "-t", tag, context)

    return build_image


@pytest.fixture(scope="module")
def image(build, make_weights):
    weights = [make_weights(0), make_weights(1)]
    built = build("lumirkit-test:two-members", weights)
    assert built.returncode == 0, built.stderr + built.stdout
    return "lumirkit-test:two-members", weights


@pytest.mark.parametrize(
    ("images", "dataset_json", "output"),
    [("/app/input", "/app/LUMIR25_dataset.json", "/app/output"), ("/input", "/LUMIR_dataset.json", "/output")],
    ids=["LUMIR 2025", "LUMIR 2024"],
)
def test_fields_equal_those_outside_bit_for_bit(image, phantom_root, tmp_path, images, dataset_json, output):
    """No network, read-only root, a user without a name: the output folder is the only writable place."""
    tag, weights = image
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    os.chown(inside, FOREIGN_USER, FOREIGN_USER)
    listed = find_dataset_json(phantom_root)
    run = docker(
        *("run", "--rm", "--network=none", "--read-only", "--user", f"{FOREIGN_USER}:{FOREIGN_USER}"),
        *("-v", f"{phantom_root}:{images}:ro", "-v", f"{listed}:{dataset_json}:ro", "-v", f"{inside}:{output}"),
        tag,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    predict_dataset(listed, phantom_root, outside, weights, torch.device("cpu"))
    pairs = read_dataset(listed).validation
    assert sorted(path.name for path in inside.iterdir()) == sorted(pair.field_name for pair in pairs)
    for pair in pairs:
        fields = [read_displacement(folder / pair.field_name, (32, 40, 34)) for folder in (inside, outside)]
        np.testing.assert_array_equal(*fields)
    assert {path.stat().st_uid for path in inside.iterdir()} == {FOREIGN_USER}


def test_the_kernels_are_compiled_already(image):
    """Made at the build; a container that may write nothing would otherwise compile them for every run."""
    look = (
        "from pathlib import Path; from submission.warm_up import warm_up; from registration.kernels import inversion;"
        "warm_up(Path('/opt/lumirkit/weights')); stats = inversion.invert.stats;"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    user = f"{FOREIGN_USER}:{FOREIGN_USER}"
    run = docker("run", "--rm", "--read-only", "--user", user, "--entrypoint", "python", image[0], "-c", look)
    assert run.stdout.split() == ["1", "0"], run.stderr


def test_images_that_the_user_may_not_read_are_named(image, phantom_root, tmp_path):
    closed = shutil.copytree(phantom_root, tmp_path / "closed")
    closed.chmod(0o700)
    listed = find_dataset_json(phantom_root)
    run = docker(
        *("run", "--rm", "--network=none", "--user", f"{FOREIGN_USER}:{FOREIGN_USER}", "-v", f"{closed}:/app/input:ro"),
        *("-v", f"{listed}:/app/LUMIR25_dataset.json:ro", "-v", f"{tmp_path}:/app/output"),
        image[0],
    )
    assert run.returncode == 2, run.stderr + run.stdout
    assert "/app/input" in run.stderr
    assert f"user {FOREIGN_USER} may not look there" in run.stderr


def test_without_mounts_it_says_what_is_missing(image):
    run = docker("run", "--rm", "--network=none", image[0])
    assert run.returncode == 2
    assert "no pair list is mounted" in run.stderr


def test_a_build_without_weights_fails_with_the_reason(build):
    built = build("lumirkit-test:none", [])
    assert built.returncode != 0
    assert "holds no .safetensors file" in built.stderr + built.stdout
