import contextlib
import gzip

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.errors import VolumeError
from lumirkit.base.files import write_atomically
from lumirkit.registration.volume import (
    read_affine,
    read_displacement,
    read_image,
    read_labels,
    write_displacement,
    write_volume,
)

SHAPE = (5, 6, 7)


def saved(path, data, affine=None):
    write_volume(path, data, np.eye(4) if affine is None else affine)
    return path


def image(value=3.0):
    data = np.zeros(SHAPE, np.float32)
    data[1:-1, 1:-1, 1:-1] = value
    return data


def test_an_image_comes_back_as_written(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    volume = read_image(saved(tmp_path / "a.nii.gz", image().astype(np.uint8), affine))
    np.testing.assert_array_equal(volume.data, image())
    np.testing.assert_array_equal(volume.affine, affine)
    assert volume.data.dtype == np.float32
    assert volume.shape == SHAPE


def truncated(tmp_path):
    path = saved(tmp_path / "bad.nii.gz", np.random.default_rng(0).random((20, 20, 20)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:5000])
    return path


def text(tmp_path):
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(gzip.compress(b"this is no image"))
    return path


def with_nan(tmp_path):
    data = image()
    data[2, 2, 2] = np.nan
    return saved(tmp_path / "bad.nii.gz", data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "bad.nii.gz", "no such file"),
        (text, "not a readable NIfTI image"),
        (truncated, "damaged or truncated"),
        (lambda folder: saved(folder / "bad.nii.gz", np.ones((*SHAPE, 2), np.float32)), "found a 4-D volume"),
        (with_nan, "1 voxels are NaN or inf"),
        (lambda folder: saved(folder / "bad.nii.gz", np.zeros(SHAPE, np.float32)), "every voxel is zero"),
    ],
    ids=["missing", "text", "truncated", "4-D", "NaN", "zero"],
)
def test_bad_images_are_refused_with_the_file_named(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(VolumeError, match=message) as refused:
        read_image(path)
    assert str(path) in str(refused.value)


def test_damaged_headers_are_never_a_crash(tmp_path):
    """Random bytes over the header: every file reads or is refused with a message, whatever nibabel raises."""
    intact = gzip.decompress(saved(tmp_path / "intact.nii.gz", image().astype(np.uint8)).read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.nii.gz"
    for _ in range(600):
        content = bytearray(intact)
        for place in rng.integers(352, size=rng.integers(1, 6)):
            content[place] = rng.integers(256)
        path.write_bytes(gzip.compress(bytes(content), 1))
        for read in (read_image, read_labels):
            with contextlib.suppress(VolumeError):
                read(path)


def test_a_header_with_an_impossible_number_is_refused(tmp_path):
    content = bytearray(gzip.decompress(saved(tmp_path / "intact.nii.gz", image()).read_bytes()))
    content[108:112] = np.float32(1e30).tobytes()  # vox_offset: where the voxels begin
    path = tmp_path / "damaged.nii.gz"
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(VolumeError, match="damaged"):
        read_image(path)


def test_labels_must_be_whole_numbers(tmp_path):
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    np.testing.assert_array_equal(read_labels(saved(tmp_path / "a.nii.gz", labels)), labels)
    for value in (0.5, np.nan):
        with pytest.raises(VolumeError, match="not whole numbers"):
            read_labels(saved(tmp_path / "b.nii.gz", image(value)))


def test_fields_are_read_in_both_layouts(tmp_path):
    disp_vox = np.random.default_rng(0).standard_normal((*SHAPE, 3)).astype(np.float32)
    write_displacement(tmp_path / "last.nii.gz", disp_vox, np.eye(4))
    first = saved(tmp_path / "first.nii.gz", np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)))
    for path in (tmp_path / "last.nii.gz", first):
        np.testing.assert_array_equal(read_displacement(path, SHAPE), disp_vox)
    assert nib.load(tmp_path / "last.nii.gz").get_data_dtype() == np.float32
    with pytest.raises(VolumeError, match=r"expected \(5, 6, 8, 3\)"):
        read_displacement(first, (5, 6, 8))
    disp_vox[0, 0, 0, 0] = np.inf
    with pytest.raises(VolumeError, match="NaN or inf"):
        read_displacement(saved(tmp_path / "inf.nii.gz", disp_vox), SHAPE)


def test_fields_keep_the_precision_of_the_file(tmp_path):
    disp_vox = np.random.default_rng(0).standard_normal((*SHAPE, 3))
    for dtype in (np.float32, np.float64, np.dtype(">f4")):
        read = read_displacement(saved(tmp_path / "field.nii.gz", disp_vox.astype(dtype)), SHAPE)
        assert read.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(read, disp_vox.astype(dtype))


def test_ambiguous_layout_is_refused(tmp_path):
    path = saved(tmp_path / "field.nii.gz", np.zeros((3, 6, 7, 3), np.float32))
    with pytest.raises(VolumeError, match=r"layout is ambiguous.*Expected \(3, X, Y, Z\).*here \(3, 3, 6, 7\)"):
        read_displacement(path, (3, 6, 7))
    first = saved(tmp_path / "first.nii.gz", np.zeros((3, 3, 6, 7), np.float32))
    assert read_displacement(first, (3, 6, 7)).shape == (3, 6, 7, 3)


def test_content_that_was_read_already_is_not_read_again(tmp_path):
    path = saved(tmp_path / "labels.nii.gz", np.ones(SHAPE, np.uint8))
    content = saved(tmp_path / "other.nii.gz", np.full(SHAPE, 7, np.uint8)).read_bytes()
    assert (read_labels(path, content) == 7).all()


def test_affine(tmp_path):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(image(), affine), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_affine(tmp_path / "a.nii.gz"), affine)
    with pytest.raises(VolumeError, match="no such file"):
        read_affine(tmp_path / "absent.nii.gz")


def test_equal_content_gives_equal_bytes(tmp_path):
    one, two = (saved(tmp_path / name, image()).read_bytes() for name in ("one.nii.gz", "two.nii.gz"))
    assert one == two


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize("kind", [np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), np.dtype(np.complex64)], ids=str)
def test_what_is_not_one_number_a_voxel_is_refused(read, kind, tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), kind), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(VolumeError, match="expected one real number a voxel"):
        read(tmp_path / "a.nii.gz")


def test_a_single_slice_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 5, 1), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(VolumeError, match="single slice"):
        read_image(tmp_path / "a.nii.gz")
