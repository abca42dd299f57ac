"""The Docker engine: images found, loaded and saved, containers run under stated conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import DeviceRequest

from lumirkit.base.errors import KitError

GIGABYTE = 2**30


class ContainerError(KitError):
    """The engine, an image or a container did not do what was asked; the message says what and why."""

    exit_status = 1


@dataclass(frozen=True)
class Conditions:
    """What a container may use; what is not said here is never given."""

    user: str | None = None
    """The user, `uid:gid`; None means the image's own."""
    network: str = "none"
    read_only: bool = False
    no_privileges: bool = False
    """Whether all capabilities are dropped, and no new ones can be gained."""
    shm_bytes: int | None = None
    host_ipc: bool = False
    memory_bytes: int | None = None
    gpus: str | None = None
    """The GPUs that it may use: a device number, or all; None means none."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def as_options(self) -> dict[str, object]:
        """The options of `docker run` that the SDK takes."""
        options: dict[str, object] = {
            "user": self.user,
            "network_mode": self.network,
            "read_only": self.read_only,
            "environment": dict(self.environment),
            "shm_size": self.shm_bytes,
            "ipc_mode": "host" if self.host_ipc else None,
            "mem_limit": self.memory_bytes,
        }
        if self.no_privileges:
            options |= {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
        if self.gpus is not None:
            which = {"count": -1} if self.gpus == "all" else {"device_ids": [self.gpus]}
            options["device_requests"] = [DeviceRequest(capabilities=[["gpu"]], **which)]
        return options


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine at a path of the container."""

    source: Path
    target: str
    writable: bool = False

    def as_option(self) -> str:
        """The mount in the notation of `docker run -v`."""
        return f"{self.source.resolve()}:{self.target}:{'rw' if self.writable else 'ro'}"


@dataclass(frozen=True)
class Finished:
    """How a container ended, and what it printed."""

    status: int
    printed: str


def connect() -> DockerClient:
    """The engine of this machine (DOCKER_HOST names another).

    Raises:
        ContainerError: none answers.
    """
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except DockerException as error:
        raise ContainerError(
            f"no Docker engine answers ({error}). Start it (systemctl start docker), or join the group `docker`."
        ) from error
    return client


def find_image(client: DockerClient, name: str) -> Image:
    """An image of the engine, or one loaded from an archive that `docker save` made (.tar or .tar.gz).

    Raises:
        ContainerError: there is none of that name, or the archive cannot be loaded.
    """
    try:
        if Path(name).is_file():
            with Path(name).open("rb") as archive:
                return client.images.load(archive)[0]
        return client.images.get(name)
    except ImageNotFound as error:
        raise ContainerError(
            f"{name}: no such image; build it with `lumirkit container build --tag {name}`."
        ) from error
    except (APIError, IndexError) as error:
        raise ContainerError(f"{name}: the engine cannot load it ({error}).") from error


def full_tag(image: Image, name: str) -> str:
    """The tag of an image that was asked for by this name, `:latest` if the name says none.

    Raises:
        ContainerError: the image has no tag at all.
    """
    if not image.tags:
        raise ContainerError(f"{name}: the image has no name; give it one with `docker tag`.")
    if Path(name).is_file() or not {name, f"{name}:latest"} & set(image.tags):
        return str(image.tags[0])
    return name if name in image.tags else f"{name}:latest"


def save_image(client: DockerClient, image: str) -> Iterator[bytes]:
    """The archive of an image, as `docker save` writes it, in parts.

    Raises:
        ContainerError: the engine cannot make it, for example because its disk is full.
    """
    found = find_image(client, image)
    try:
        yield from found.save(named=image)
    except APIError as error:
        if "no space left on device" not in str(error):
            raise ContainerError(f"{image}: the engine cannot save it ({error.explanation or error}).") from error
        size_gb = found.attrs["Size"] / GIGABYTE
        raise ContainerError(
            f"{image}: the disk of the Docker engine is full; expected room for {size_gb:.1f} GB, the image's archive, "
            f"in {client.info()['DockerRootDir']}. Free some, for example by `docker image prune`."
        ) from error


@contextmanager
def started(
    client: DockerClient,
    image: str,
    arguments: Sequence[str] = (),
    mounts: Sequence[Mount] = (),
    conditions: Conditions | None = None,
    entrypoint: str | None = None,
) -> Iterator[Container]:
    """A container that is running; it is removed in the end, whatever happens.

    Args:
        entrypoint: the program to run in place of the image's own.

    Raises:
        ContainerError: the engine refuses to start it.
    """
    volumes = [mount.as_option() for mount in mounts]
    options = (conditions or Conditions()).as_options() | ({} if entrypoint is None else {"entrypoint": entrypoint})
    try:
        container = client.containers.run(image, list(arguments), detach=True, volumes=volumes, **options)
    except (APIError, ImageNotFound) as error:
        raise ContainerError(f"{image}: could not be started ({error.explanation or error}).") from error
    try:
        yield container
    finally:
        container.remove(force=True)


def finish(container: Container) -> Finished:
    """Wait until a container ends."""
    status = int(container.wait()["StatusCode"])
    return Finished(status, container.logs().decode(errors="replace"))


def run(
    client: DockerClient,
    image: str,
    arguments: Sequence[str] = (),
    mounts: Sequence[Mount] = (),
    conditions: Conditions | None = None,
) -> Finished:
    """Run a container to its end; everything else is as with `started`."""
    with started(client, image, arguments, mounts, conditions) as container:
        return finish(container)
