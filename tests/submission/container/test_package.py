"""The check of a submission's zip: a whole one passes, and whatever is missing or damaged is named."""

import gzip
import io
import json
import tarfile
import zipfile

import nibabel as nib
import numpy as np
import pytest

from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.registration.volume import write_displacement
from lumirkit.submission.container.engine import ContainerError
from lumirkit.submission.container.package import check_package

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
