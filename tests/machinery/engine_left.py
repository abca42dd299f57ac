"""The Docker engine left as tests found it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from docker import DockerClient
from docker.errors import APIError


@contextmanager
def left_as_found(client: DockerClient, names: Sequence[str]) -> Iterator[None]:
    """Remove, in the end, what came to the engine meanwhile.

    These are images of these names, images without any name, as builds leave them, and containers of both. Whatever was
    there before stays, and a name that was there before is given back to its image.

    Args:
        names: of the images that the tests make, without tags.
    """
    images_before = _tags(client)
    tags_before = {tag: image for image, tags in images_before.items() for tag in tags}
    containers_before = {container.id for container in client.containers.list(all=True)}
    try:
        yield
    finally:
        new = {image: tags for image, tags in _tags(client).items() if image not in images_before}
        ours = {image for image, tags in new.items() if all(tag.rsplit(":", 1)[0] in names for tag in tags)}
        for container in client.containers.list(all=True):
            if container.id not in containers_before and container.attrs["Image"] in ours:
                container.remove(force=True)
        for tag in (tag for image in ours for tag in new[image]):
            client.images.remove(tag)
        for name, image in tags_before.items():
            repository, tag = name.rsplit(":", 1)
            if repository in names and image in _tags(client):
                client.images.get(image).tag(repository, tag)
        _remove_unnamed(client, ours)


def _tags(client: DockerClient) -> dict[str, list[str]]:
    return {image.id: image.tags for image in client.images.list()}


def _remove_unnamed(client: DockerClient, images: set[str]) -> None:
    """Remove images that nothing refers to any more; one that another is built on goes after it."""
    while True:
        left = images & set(_tags(client))
        for image in left:
            try:
                client.images.remove(image, noprune=False)
            except APIError:
                continue
        if images & set(_tags(client)) in (left, set()):
            return
