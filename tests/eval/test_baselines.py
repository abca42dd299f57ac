"""Reference methods: their fields, their records, and the frames that their packages speak."""

import hashlib
import json
import shutil
from importlib.metadata import PackageNotFoundError

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from lumirkit.base import extras
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import Shard
from lumirkit.eval import baselines
from lumirkit.eval.baselines import ConvexAdam, SyN, displacement_from_ants, record_path, run_baseline, to_ants
from lumirkit.registration.volume import Volume, read_displacement, write_volume
from lumirkit.registration.warp import sample

REASON = "needs the extra: pip install '.[baselines]'"
SHAPE = (40, 34, 28)


@pytest.fixture
def ants():
    return pytest.importorskip("ants", reason=REASON)


def oblique_affine():
    """Axes permuted and one flipped, then rotated; another spacing along each; origin off zero."""
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    permutation = np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ permutation * np.array([1.0, 1.5, 0.8])
    affine[:3, 3] = 12, -7, 30
    return affine


AFFINES = {"RAS": np.eye(4), "LPS": np.diag([-1.0, -1, 1, 1]), "oblique": oblique_affine()}
affines = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
axes = pytest.mark.parametrize("axis", range(3), ids="xyz")


def texture(seed=0, shape=SHAPE):
    image = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return (200 * (image - image.min()) / np.ptp(image)).astype(np.float32)


def translated_pair(axis, affine, voxels, path):
    """fixed(p) = moving(p + u) with u = `voxels` along one axis."""
    fixed = texture()
    by = np.zeros(3)
    by[axis] = voxels
    moving = shift(fixed, by, order=1, mode="nearest")
    return (Volume(path, data, affine) for data in (fixed, moving))


def lps_mm(affine, disp_vox):
    """Voxel displacements (..., 3) as ITK sees them."""
    return disp_vox @ (np.diag([-1.0, -1, 1]) @ affine[:3, :3]).T


def test_the_zero_field_comes_in_the_format_of_predictions(lumirkit, phantom_root, tmp_path):
    assert lumirkit("baseline", "zero", "--dataset", phantom_root, "--out", tmp_path).returncode == 0
    pairs = read_dataset(find_dataset_json(phantom_root)).validation
    fields = [tmp_path / pair.field_name for pair in pairs]
    assert set(tmp_path.iterdir()) == {*fields, *map(record_path, fields)}
    image = nib.load(fields[0])
    assert image.shape == (32, 40, 34, 3)
    assert image.get_data_dtype() == np.float32
    assert not image.get_fdata().any()
    record = json.loads(record_path(fields[0]).read_text())
    assert record.pop("seconds") >= 0
    assert record == {
        "case": pairs[0].case_name,
        "method": "zero",
        "package": None,
        "version": None,
        "settings": {},
        "images_sha256": [
            hashlib.sha256((phantom_root / image).read_bytes()).hexdigest()
            for image in (pairs[0].fixed, pairs[0].moving)
        ],
    }


def test_a_field_is_kept_until_its_record_or_an_image_changes(lumirkit, phantom_root, tmp_path):
    dataset, out = shutil.copytree(phantom_root, tmp_path / "dataset"), tmp_path / "out"
    command = ("baseline", "zero", "--dataset", dataset, "--out", out)
    assert lumirkit(*command).returncode == 0
    kept, other, unfinished, *_ = sorted(out.glob("*.nii.gz"))
    for field in (kept, other, unfinished):
        field.write_bytes(b"as it was")
    record_path(unfinished).unlink()
    shutil.copy(
        dataset / "imagesVal/LUMIRMRI_3454_0000.nii.gz", dataset / f"imagesVal/LUMIRMRI_{other.name[5:9]}_0000.nii.gz"
    )
    assert lumirkit(*command).returncode == 0
    assert kept.read_bytes() == b"as it was"
    assert other.read_bytes() != b"as it was"
    assert unfinished.read_bytes() != b"as it was"


def test_a_damaged_image_fails_its_pair_and_no_other(lumirkit, phantom_root, tmp_path):
    dataset, out = shutil.copytree(phantom_root, tmp_path / "dataset"), tmp_path / "out"
    (dataset / "imagesVal/LUMIRMRI_3455_0000.nii.gz").write_bytes(b"")
    ended = lumirkit("baseline", "zero", "--dataset", dataset, "--out", out)
    assert ended.returncode == 1
    assert "3455_0000<--3454_0000" in ended.stderr
    assert len(list(out.glob("*.nii.gz"))) == len(list(out.glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("name", "method", "package"), [("syn", "SyN", "antspyx"), ("convexadam", "ConvexAdam", "convexAdam")]
)
def test_without_the_extra_the_request_is_refused(lumirkit, phantom_root, tmp_path, monkeypatch, name, method, package):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", not_installed)
    out = tmp_path / "out"
    ended = lumirkit("baseline", name, "--dataset", phantom_root, "--out", out)
    assert ended.returncode == 2
    extra = "install the extra: pip install 'lumirkit[baselines]'"
    assert ended.stderr == f"error: the baseline {method} needs {package}; {extra}\n"
    assert not out.exists()


def test_an_unknown_baseline_is_refused(lumirkit, phantom_root, tmp_path):
    ended = lumirkit("baseline", "demons", "--dataset", phantom_root, "--out", tmp_path)
    assert ended.returncode == 2
    assert "expected one of zero, syn, convexadam" in ended.stderr


@affines
def test_an_ants_image_lies_where_the_nifti_file_says(ants, affine, tmp_path):
    write_volume(tmp_path / "image.nii.gz", texture(), affine)
    from_file, from_array = ants.image_read(str(tmp_path / "image.nii.gz")), to_ants(texture(), affine)
    np.testing.assert_array_equal(from_array.numpy(), from_file.numpy())
    for name in ("origin", "spacing", "direction"):
        np.testing.assert_allclose(getattr(from_array, name), getattr(from_file, name), atol=1e-5)


@affines
@axes
def test_a_translation_in_mm_becomes_one_in_voxels(ants, affine, axis, tmp_path):
    expected = np.zeros(3)
    expected[axis] = 2.5
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", dimension=3, translation=tuple(lps_mm(affine, expected))
    )
    file = str(tmp_path / "translation.mat")
    ants.write_transform(transform, file)
    disp_vox = displacement_from_ants(to_ants(texture(), affine), affine, [file])
    assert disp_vox.dtype == np.float32
    np.testing.assert_allclose(disp_vox, np.broadcast_to(expected, (*SHAPE, 3)), atol=1e-5)


def random_transforms(ants, affine, folder):
    """A smooth warp after an affine, as files in the order of ANTs' transform lists."""
    rng = np.random.default_rng(1)
    disp_vox = np.stack([gaussian_filter(rng.standard_normal(SHAPE), 4) for _ in range(3)], axis=-1)
    disp_vox *= 2 / np.abs(disp_vox).max()
    geometry = to_ants(texture(), affine)
    warp = ants.from_numpy(
        lps_mm(affine, disp_vox).astype(np.float32),
        geometry.origin,
        geometry.spacing,
        geometry.direction,
        has_components=True,
    )
    warp_file, affine_file = str(folder / "warp.nii.gz"), str(folder / "affine.mat")
    ants.image_write(warp, warp_file)
    centre = affine[:3, :3] @ (np.array(SHAPE) / 2) + affine[:3, 3]
    linear = ants.create_ants_transform(
        transform_type="AffineTransform",
        dimension=3,
        matrix=np.eye(3) + 0.04 * rng.standard_normal((3, 3)),
        translation=tuple(rng.uniform(-1, 1, 3)),
        center=tuple(centre * [-1, -1, 1]),
    )
    ants.write_transform(linear, affine_file)
    return [warp_file, affine_file]


def assert_both_warp_alike(ants, affine, transforms):
    """ANTs resampling through its own files and this package's sampling through the field give one image."""
    moving = texture(2)
    fixed_image = to_ants(texture(), affine)
    disp_vox = displacement_from_ants(fixed_image, affine, transforms)
    by_ants = ants.apply_transforms(fixed_image, to_ants(moving, affine), transforms).numpy()
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)))[None]
    by_field = sample(torch.from_numpy(moving)[None, None], field)[0, 0].numpy()
    position = np.moveaxis(np.indices(SHAPE), 0, -1) + disp_vox
    inside = ((position > 0) & (position < np.array(SHAPE) - 1)).all(axis=-1)  # the two fill differently outside
    assert inside.mean() > 0.7
    np.testing.assert_allclose(by_field[inside], by_ants[inside], atol=0.01)  # of a range of 200
    assert np.abs(moving - by_ants)[inside].mean() > 1  # the field is not next to nothing


@affines
def test_warp_and_affine_compose_as_ants_applies_them(ants, affine, tmp_path):
    assert_both_warp_alike(ants, affine, random_transforms(ants, affine, tmp_path))


@affines
@axes
def test_syn_pulls_the_moving_image_onto_the_fixed_one(ants, affine, axis, tmp_path):
    fixed, moving = translated_pair(axis, affine, 2, tmp_path)
    disp_vox = SyN(iterations=(40, 20))(fixed, moving)
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 2, atol=0.3)


@affines
def test_the_field_of_syn_warps_as_ants_does(ants, affine, tmp_path, monkeypatch):
    compared = []

    def compare(fixed_image, affine, transforms):
        assert_both_warp_alike(ants, affine, transforms)
        compared.append(transforms)
        return displacement_from_ants(fixed_image, affine, transforms)

    monkeypatch.setattr(baselines, "displacement_from_ants", compare)
    fixed, moving = (Volume(tmp_path, texture(seed), affine) for seed in (0, 3))
    SyN(iterations=(20, 10))(fixed, moving)
    assert compared


@axes
def test_convexadam_pulls_the_moving_image_onto_the_fixed_one(axis, tmp_path):
    pytest.importorskip("convexAdam", reason=REASON)
    fixed, moving = translated_pair(axis, np.eye(4), 3, tmp_path)
    disp_vox = ConvexAdam(device="cpu")(fixed, moving)
    assert disp_vox.dtype == np.float32
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 3, atol=0.3)


@pytest.mark.parametrize(
    ("name", "module", "setting"), [("syn", "ants", "iterations"), ("convexadam", "convexAdam", "selected_niter")]
)
def test_a_method_of_the_extra_writes_field_and_record(phantom_root, tmp_path, name, module, setting):
    pytest.importorskip(module, reason=REASON)
    json_path = find_dataset_json(phantom_root)
    assert run_baseline(name, json_path, phantom_root, tmp_path, Shard(1, 4)) == []
    field = tmp_path / read_dataset(json_path).validation[0].field_name
    assert np.abs(read_displacement(field, (32, 40, 34))).max() > 0.1
    record = json.loads(record_path(field).read_text())
    assert record["seconds"] > 0
    assert record["version"]
    assert setting in record["settings"]
