"""What is in an image, in CycloneDX's JSON: the image by its id and digests, and the Python packages in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docker import DockerClient

from lumirkit.submission.container.engine import Conditions, ContainerError, find_image, started

_LIST = ("-m", "pip", "list", "--format=json", "--disable-pip-version-check")


def contents_path(package: Path) -> Path:
    """The file beside a submission's zip that says what is in its image."""
    return package.with_suffix(".cdx.json")


def image_contents(client: DockerClient, image: str) -> dict[str, Any]:
    """List an image's Python packages, as pip in it sees them, and name the image so that nothing can stand for it.

    An image that was never pushed has an id but no digest, because registries give these.

    Raises:
        ContainerError: there is no such image, or pip in it does not answer.
    """
    found = find_image(client, image)
    assert found.id is not None  # of an image that the engine has
    with started(client, image, _LIST, conditions=Conditions(read_only=True), entrypoint="python") as container:
        status = int(container.wait()["StatusCode"])
        listed = container.logs(stderr=False).decode()
        if status != 0:
            said = container.logs(stdout=False).decode(errors="replace")[-500:]
            raise ContainerError(f"{image}: `pip list` in it ended with status {status}; expected 0: {said}")
    labels = found.labels
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": image,
                "version": labels.get("org.opencontainers.image.version", "unknown"),
                "hashes": [{"alg": "SHA-256", "content": found.id.removeprefix("sha256:")}],
                "properties": [
                    {"name": "docker:id", "value": found.id},
                    *({"name": "docker:digest", "value": digest} for digest in found.attrs.get("RepoDigests") or ()),
                    *({"name": name, "value": value} for name, value in sorted(labels.items())),
                ],
            }
        },
        "components": [_component(package["name"], package["version"]) for package in json.loads(listed)],
    }


def _component(name: str, version: str) -> dict[str, str]:
    address = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"
    return {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
