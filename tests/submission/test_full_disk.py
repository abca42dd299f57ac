"""A disk without room for a single field is found before anything is registered, by all that write fields."""

import shutil

import pytest
from typer.testing import CliRunner

from lumirkit.base.errors import RequestError
from lumirkit.commands.main import app
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.submission.entrypoint import app as container

FIXED, MOVING = "imagesVal/LUMIRMRI_3455_0000.nii.gz", "imagesVal/LUMIRMRI_3454_0000.nii.gz"
FIELD_BYTES = 32 * 40 * 34 * 3 * 4


@pytest.fixture
def free(monkeypatch):
    """Let the disk of a folder, or every one, tell that it has so many bytes of room."""
    usage = shutil.disk_usage

    def tell(count, disk=None):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: usage(path)._replace(free=count if disk in (None, path) else 10**12)
        )

    return tell


def call(program, *arguments):
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


@pytest.mark.parametrize("what", ["predict", "baseline", "register", "container", "one pair"])
def test_no_room_for_a_field_is_found_first(dataset, make_weights, tmp_path, free, what):
    free(FIELD_BYTES - 1)
    fixed, moving, out, weights = dataset / FIXED, dataset / MOVING, tmp_path / "out", make_weights()
    field = out / "field.nii.gz"
    program, *arguments = {
        "predict": (app, "predict", "--dataset", dataset, "--out", out, "--weights", weights),
        "baseline": (app, "baseline", "zero", "--dataset", dataset, "--out", out),
        "register": (app, "register", fixed, moving, field, "--weights", weights),
        "container": (container, "--dataset-json", find_dataset_json(dataset), "--output", out, "--weights", weights),
        "one pair": (container, fixed, moving, fixed, moving, field, "--weights", weights),
    }[what]
    ended = call(program, *arguments)
    assert isinstance(ended.exception, RequestError), ended.output
    assert "of room on its disk; expected 0." in str(ended.exception)
    assert not out.exists()


def test_no_room_for_the_moved_image_is_found_first(dataset, make_weights, tmp_path, free):
    (tmp_path / "small").mkdir()
    free(FIELD_BYTES // 3 - 1, tmp_path / "small")
    field, moved = tmp_path / "field.nii.gz", tmp_path / "small" / "moved.nii.gz"
    arguments = ("register", dataset / FIXED, dataset / MOVING, field, "--moved", moved, "--weights", make_weights())
    ended = call(app, *arguments)
    assert isinstance(ended.exception, RequestError), ended.output
    assert "moved.nii.gz: found 0.2 MB of room" in str(ended.exception)
    free(FIELD_BYTES // 3, tmp_path / "small")
    assert call(app, *arguments).exit_code == 0


def test_fields_that_are_there_need_no_room(dataset, make_weights, tmp_path, free):
    arguments = ("predict", "--dataset", dataset, "--out", tmp_path, "--weights", make_weights())
    assert call(app, *arguments).exit_code == 0
    free(0)
    assert call(app, *arguments).exit_code == 0
    next(tmp_path.glob("disp_*.nii.gz")).unlink()
    assert isinstance(call(app, *arguments).exception, RequestError)


def test_of_an_image_that_cannot_be_read_the_account_tells(dataset, make_weights, tmp_path, free):
    free(0)
    fixed, moving = dataset / FIXED, dataset / MOVING
    fixed.write_bytes(b"no image")
    ended = call(container, fixed, moving, fixed, moving, tmp_path / "field.nii.gz", "--weights", make_weights())
    assert ended.exit_code == 1
    assert (tmp_path / "field_status.json").exists()
