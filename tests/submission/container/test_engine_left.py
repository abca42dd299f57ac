"""What the tests of the container leave in the engine: nothing of theirs, and all that was there."""

import pytest
from engine_left import left_as_found

from lumirkit.submission.container.engine import ContainerError, connect

pytestmark = pytest.mark.docker
NAME = "lumirkit-test-of-cleaning"


@pytest.fixture
def client():
    try:
        return connect()
    except ContainerError as error:
        pytest.skip(str(error))


@pytest.fixture
def build(client, tmp_path):
    """Build an image of one file, on no base unless one is named, and with a name or without one."""
    (tmp_path / "file").write_text("x")

    def make(label, base="scratch", tag=None):
        (tmp_path / "Dockerfile").write_text(f'FROM {base}\nCOPY file /{label}\nLABEL is={label}\nCMD ["/{label}"]\n')
        return client.images.build(path=str(tmp_path), tag=tag, rm=True, nocache=True)[0]

    return make


def test_only_what_tests_made_is_removed(client, build):
    with left_as_found(client, [NAME]):  # cleans up what this test itself makes
        before, unnamed = build("before", tag=f"{NAME}:kept"), build("unnamed")
        stopped = client.containers.create(before.id)
        with left_as_found(client, [NAME]):
            one = build("one", tag=f"{NAME}:kept")  # takes the name
            two, three = build("two", f"{NAME}:kept", f"{NAME}:two"), build("three")
            other = build("other", tag=f"{NAME}-of-somebody-else")
            made = [client.containers.create(image.id) for image in (one, two)]
        left = {image.id for image in client.images.list()}
        assert left >= {before.id, unnamed.id, other.id}
        assert not left & {one.id, two.id, three.id}
        assert client.images.get(f"{NAME}:kept").id == before.id
        containers = {container.id for container in client.containers.list(all=True)}
        assert stopped.id in containers
        assert not containers & {container.id for container in made}
        client.images.remove(other.id, force=True)
    assert not client.images.list(NAME)
    assert before.id not in {image.id for image in client.images.list()}
