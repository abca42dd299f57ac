"""The image of the container is built from weights and this clone."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from docker import DockerClient
from docker.errors import BuildError
from docker.models.images import Image

import lumirkit
from lumirkit.registration.predictor import require_method
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.weights import find_weights, hash_of_members, load_ensemble
from lumirkit.submission.container.engine import ContainerError

_SOURCES = (
    *("Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"),
    *("lumirkit/__init__.py", "lumirkit/base", "registration", "data_manifests", "submission"),
)


def build_image(
    client: DockerClient,
    weights: Sequence[Path],
    tag: str,
    base_image: str | None = None,
    torch_index: str | None = None,
    refinement: Refinement | None = None,
    say: Callable[[str], None] = print,
) -> Image:
    """Build the container of an ensemble.

    Args:
        weights: one to K weight files or folders of them.
        base_image: instead of the Dockerfile's.
        torch_index: package index of torch instead of the Dockerfile's; "" for the one that pip uses anyway.
        refinement: its steps and its finest grid, which the image refines every pair by.
        say: gets every line that the build prints.

    Raises:
        WeightsError: the weights cannot be used.
        RequestError: the refinement does not suit them.
        ContainerError: a part of the clone is missing, or the build fails.
    """
    network, cards = load_ensemble(weights)
    require_method(network, refinement)
    arguments = {"VERSION": version("lumirkit"), "COMMIT": _commit(), "WEIGHTS_SHA256": hash_of_members(cards)}
    given = {"BASE_IMAGE": base_image, "TORCH_INDEX": torch_index}
    if refinement is not None:
        given |= {"REFINE": str(refinement.steps)}
        given |= {"REFINE_GRID": str(refinement.finest_vox)} if refinement.finest_vox is not None else {}
    arguments |= {key: value for key, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _fill(context, find_weights(weights))
        try:
            image, lines = client.images.build(
                path=folder, tag=tag, buildargs=arguments, network_mode="host", rm=True, forcerm=True
            )
        except BuildError as error:
            printed = "".join(line.get("stream", "") for line in error.build_log)
            raise ContainerError(f"the build of {tag} failed: {error}\n{printed[-2000:]}") from error
    for line in lines:
        if line.get("stream", "").strip():
            say(line["stream"].rstrip())
    return image


def _repository() -> Path:
    return Path(lumirkit.__file__).resolve().parents[1]


def _fill(context: Path, weights: Sequence[Path]) -> None:
    """Copy what the Dockerfile copies, with these weights and no others; they are numbered, which keeps their order."""
    for name in _SOURCES:
        source = _repository() / name
        (context / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        elif source.is_file():
            shutil.copy(source, context / name)
        else:
            raise ContainerError(f"{source}: no such file; an image is built from a clone of the repository.")
    for number, file in enumerate(weights):
        shutil.copy(file, context / "submission" / "weights" / f"{number:02d}_{file.name}")


def _commit() -> str:
    """The clone's commit, with a mark if something was changed since; unknown where there is no git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=_repository(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
