"""Writing files: long names, full disks, and outputs that are inputs."""

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lumirkit.base.errors import RequestError
from lumirkit.base.files import (
    append_text,
    remove_partial_files,
    require_room,
    write_atomically,
    write_json_atomically,
    write_text_atomically,
)
from lumirkit.base.outputs import require_apart


@pytest.mark.parametrize("name", ["a" * 240 + ".nii.gz", "a." * 124 + "nii.gz", "é" * 123 + ".nii.gz"])
def test_every_name_that_is_legal_can_be_written(tmp_path, name):
    assert 247 <= len(os.fsencode(name)) <= 255
    seen = []

    def write(temporary):
        seen.append(temporary.name)
        temporary.write_text("whole")

    write_atomically(tmp_path / name, write)
    assert (tmp_path / name).read_text() == "whole"
    assert seen[0].endswith(".nii.gz"), "what writes by the ending must find it"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_process_left_of_a_long_name_is_found(tmp_path):
    path = tmp_path / ("b" * 247)
    left = []

    def killed(temporary):
        left.append(temporary)
        temporary.write_text("part")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, killed)
    left[0].write_text("part")
    remove_partial_files(tmp_path, ["other"])
    assert left[0].exists()
    remove_partial_files(tmp_path, ["other", path.name])
    assert not left[0].exists()


def test_a_text_is_utf8_whatever_files_it_names(tmp_path):
    """On disks that another system wrote, names may be in Latin-1, which Python keeps as surrogates."""
    text = os.fsdecode(b"lat\xe9") + " and é"
    write_text_atomically(tmp_path / "text", text)
    assert (tmp_path / "text").read_text(encoding="utf-8") == "lat\ufffd and é"
    write_json_atomically(tmp_path / "json", {"file": text, "seconds": 0.1})
    assert (tmp_path / "json").read_bytes() == '{\n "file": "lat\ufffd and é",\n "seconds": 0.1\n}\n'.encode()
    assert json.loads((tmp_path / "json").read_bytes())["file"] == "lat\ufffd and é"


def test_a_full_disk_names_the_file_and_leaves_the_older_one(tmp_path):
    path = tmp_path / "field.nii.gz"
    path.write_text("older")

    def fill(_):
        with Path("/dev/full").open("w") as full:
            full.write("more than there is room for")

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, fill)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert str(path) in str(caught.value)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_log_that_grows():
    with pytest.raises(OSError, match=r"No space left.*/dev/full"):
        append_text(Path("/dev/full"), "one more line\n")


def test_room_for_a_volume_is_looked_for_where_its_folder_will_be(tmp_path, monkeypatch):
    asked = []

    def told(total, free):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(total=total, free=free)
        )

    field = tmp_path / "not" / "yet" / "field.nii.gz"
    told(10**9, 4 * 3 * 4 * 5 * 6)
    require_room(field, (4, 5, 6))
    told(10**9, 4 * 3 * 4 * 5 * 6 - 1)
    with pytest.raises(RequestError, match=r"field.nii.gz: found 0.0 MB of room on its disk; expected 0.0 MB"):
        require_room(field, (4, 5, 6))
    require_room(field, (4, 5, 6), numbers=1)
    told(0, 0)
    require_room(field, (4, 5, 6))
    assert set(asked) == {tmp_path}


def test_a_name_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(OSError, match=r"c{256}"):
        write_text_atomically(tmp_path / ("c" * 256), "")
    with pytest.raises(RequestError, match="found a name of 256 bytes; expected at most 255"):
        require_apart([tmp_path / ("c" * 256)], [])


@pytest.mark.parametrize("kind", ["same", "dots", "missing folder", "symlink", "hard link", "folder link"])
def test_an_output_that_is_an_input_is_refused_under_every_name(tmp_path, kind):
    (tmp_path / "data").mkdir()
    image = tmp_path / "data" / "image.nii.gz"
    image.write_text("image")
    output = {
        "same": image,
        "dots": tmp_path / "data" / ".." / "data" / "image.nii.gz",
        "missing folder": tmp_path / "missing" / ".." / "data" / "image.nii.gz",
        "folder link": tmp_path / "folder" / "image.nii.gz",
    }.get(kind, tmp_path / "link.nii.gz")
    if kind == "symlink":
        output.symlink_to(image)
    elif kind == "hard link":
        os.link(image, output)
    elif kind == "folder link":
        output.parent.symlink_to(image.parent)
    with pytest.raises(RequestError, match=r"found the input .*image.nii.gz in the place of the output"):
        require_apart([None, output], [tmp_path / "other.nii.gz", None, image])
    require_apart([tmp_path / "new.nii.gz"], [image, None])


def test_two_outputs_are_two_files(tmp_path):
    with pytest.raises(RequestError, match="found two outputs of this name"):
        require_apart([tmp_path / "a", tmp_path / "b" / ".." / "a"], [])
