"""The check of a submission's zip: a whole one passes, and whatever is missing or damaged is named."""

import gzip
import io
import json
import tarfile
import zipfile
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from docker.errors import APIError

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.registration.volume import write_displacement
from lumirkit.submission.container.engine import ContainerError, save_image
from lumirkit.submission.container.package import check_package, package_submission

SHAPE = (32, 40, 34)


@pytest.fixture
def make_package(phantom_root, tmp_path):
    """Write a zip as `package` does, of an archive with a manifest alone; `change` alters its parts before."""

    def make(change=lambda parts: None, tag="lumirkit:latest"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as files:
            manifest = json.dumps([{"RepoTags": [tag]}]).encode()
            entry = tarfile.TarInfo("manifest.json")
            entry.size = len(manifest)
            files.addfile(entry, io.BytesIO(manifest))
        fields = {}
        for pair in read_dataset(find_dataset_json(phantom_root)).validation:
            path = tmp_path / "field.nii.gz"
            write_displacement(path, np.ones((*SHAPE, 3), np.float32), np.eye(4))
            fields[f"validation_predictions/{pair.field_name}"] = path.read_bytes()
        parts = {"lumirkit.tar.gz": archive.getvalue(), "README.txt": b"CPUs: 2\n", "fields": fields}
        change(parts)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as inner:
            for name, content in parts.pop("fields").items():
                inner.writestr(name, content)
        out = tmp_path / "submission.zip"
        with zipfile.ZipFile(out, "w") as outer:
            for name, content in (parts | {"validation_predictions.zip": packed.getvalue()}).items():
                outer.writestr(name, content)
        return out

    return lambda *arguments, **more: (make(*arguments, **more), "lumirkit:latest", find_dataset_json(phantom_root))


def test_a_whole_package_passes(make_package):
    check_package(*make_package())


def without_readme(parts):
    del parts["README.txt"]


def without_a_field(parts):
    parts["fields"].popitem()


def with_half_a_field(parts):
    name, content = parts["fields"].popitem()
    parts["fields"][name] = content[: len(content) // 2]


def with_a_field_in_double_precision(parts):
    name, _ = parts["fields"].popitem()
    image = nib.Nifti1Image(np.ones((*SHAPE, 3), np.float64), np.eye(4))
    parts["fields"][name] = gzip.compress(image.to_bytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_readme, "README.txt"),
        (without_a_field, "expected"),
        (with_half_a_field, "damaged or truncated"),
        (with_a_field_in_double_precision, "float64; expected float32"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_named(make_package, change, message):
    with pytest.raises(ContainerError, match=message):
        check_package(*make_package(change))


def test_another_image_in_the_archive_is_refused(make_package):
    with pytest.raises(ContainerError, match=r"names \['other:latest'\]; expected lumirkit:latest"):
        check_package(*make_package(tag="other:latest"))


def test_a_folder_in_the_place_of_the_zip_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(RequestError, match="found a folder in the place of the output"):
        package_submission(None, "mine", tmp_path / "dataset.json", tmp_path, None, None)


class EngineThatSavesNothing:
    """An engine whose disk cannot be filled by a test, with the answer that one with a full disk gave."""

    def __init__(self, answer):
        self.images = SimpleNamespace(get=lambda name: self)
        self.attrs = {"Size": 3 * 2**30}
        self.answer = answer

    def info(self):
        return {"DockerRootDir": "/var/lib/docker"}

    def save(self, named):
        raise APIError("500 Server Error", explanation=self.answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "write /var/lib/docker/tmp/docker-export-1/layer.tar: no space left on device",
            r"mine: the disk of the Docker engine is full; expected room for 3\.0 GB, the image's archive, in "
            r"/var/lib/docker\. Free some",
        ),
        ("unexpected EOF", r"mine: the engine cannot save it \(unexpected EOF\)"),
    ],
)
def test_an_engine_that_cannot_save_the_image_says_why_in_a_sentence(answer, message):
    with pytest.raises(ContainerError, match=message):
        list(save_image(EngineThatSavesNothing(answer), "mine"))
