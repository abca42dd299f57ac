"""Field files in the challenge's convention and in ITK's, the latter against ANTs."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import VolumeError
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import read_field, require_convention, write_field
from lumirkit.registration.grid import Grid, to_voxels
from lumirkit.registration.volume import write_vectors, write_volume

OBLIQUE = Rotation.from_euler("xyz", [20, -10, 15], degrees=True).as_matrix()
LPS = Grid((18, 20, 22), np.diag([-1.2, -1.0, 1.1, 1.0]))
PERMUTED = Grid((22, 18, 20), from_matvec(OBLIQUE @ np.array([[0, -1.1, 0], [0, 0, 1.3], [0.9, 0, 0]]), (3, -18, -2)))
GRIDS = {"one": (LPS, LPS), "two": (LPS, PERMUTED), "two, exchanged": (PERMUTED, LPS), "one, oblique": (PERMUTED,) * 2}
pairs = pytest.mark.parametrize(("fixed", "moving"), GRIDS.values(), ids=GRIDS)


def smooth_mm(shape, seed=0):
    """A smooth displacement of some millimetres."""
    rng = np.random.default_rng(seed)
    noise = np.stack([gaussian_filter(rng.standard_normal(shape), 3) for _ in range(3)], axis=-1)
    return 2 * noise / np.abs(noise).max()


@pairs
def test_a_field_comes_back_from_its_file(fixed, moving, tmp_path):
    disp_vox = to_voxels(smooth_mm(fixed.shape), fixed, moving)
    for convention in Convention if fixed is moving else [Convention.ITK]:
        write_field(tmp_path / "field.nii.gz", disp_vox, fixed, moving, convention)
        field = read_field(tmp_path / "field.nii.gz")
        assert field.convention is convention
        assert field.grid.same_as(fixed)
        np.testing.assert_allclose(field.disp_vox(moving), disp_vox, atol=1e-4)
        np.testing.assert_allclose(field.disp_ras_mm(moving), smooth_mm(fixed.shape), atol=1e-4)


def test_the_file_of_itk_holds_lps_mm(tmp_path):
    write_field(tmp_path / "a.nii.gz", np.broadcast_to([1.0, 2.0, 3.0], (*LPS.shape, 3)), LPS, LPS, Convention.ITK)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.shape == (18, 20, 22, 1, 3)
    assert image.header.get_intent()[0] == "vector"
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.get_fdata()[4, 5, 6, 0], [1.2, 2.0, 3.3], rtol=1e-6)  # its axes run to L, P, S


@pairs
def test_ants_takes_points_where_the_field_says(fixed, moving, tmp_path):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    disp_vox = to_voxels(smooth_mm(fixed.shape), fixed, moving)
    write_field(tmp_path / "warp.nii.gz", disp_vox, fixed, moving, Convention.ITK)
    zeros = np.zeros(fixed.shape, np.float32)
    at = np.array([[9, 10, 11], [5, 8, 9], [12, 9, 8]])
    lps = (
        np.array([to_ants(zeros, fixed.affine).origin])
        + (at * fixed.spacing_mm) @ to_ants(zeros, fixed.affine).direction.T
    )
    transform = ants.transform_from_displacement_field(ants.image_read(str(tmp_path / "warp.nii.gz")))
    there = np.array([transform.apply_to_point(tuple(point)) for point in lps])
    on_moving = to_ants(np.zeros(moving.shape, np.float32), moving.affine)
    there_vox = (there - on_moving.origin) @ on_moving.direction / moving.spacing_mm
    np.testing.assert_allclose(there_vox, at + disp_vox[tuple(at.T)], atol=1e-4)


def test_a_field_with_components_first_is_read(tmp_path):
    disp_vox = smooth_mm((5, 6, 7)).astype(np.float32)
    write_volume(tmp_path / "first.nii.gz", np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)), np.eye(4))
    field = read_field(tmp_path / "first.nii.gz")
    assert field.grid.shape == (5, 6, 7)
    np.testing.assert_array_equal(field.values, disp_vox)


def with_nan(path):
    vectors = smooth_mm((5, 6, 7))
    vectors[1, 2, 3, 0] = np.nan
    write_vectors(path, vectors, np.eye(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (
            lambda path: write_volume(path, np.ones((5, 6, 7), np.float32), np.eye(4)),
            r"shape \(5, 6, 7\); expected a f",
        ),
        (lambda path: write_volume(path, np.ones((5, 6, 7, 2), np.float32), np.eye(4)), "expected a field"),
        (lambda path: write_volume(path, np.ones((5, 6, 7, 1, 3), np.float32), np.eye(4)), "intent 0; expected"),
        (
            lambda path: write_volume(path, np.ones((5, 6, 7, 1, 3), np.int16), np.eye(4), intent=1007),
            "stored as int16",
        ),
        (with_nan, "NaN or inf"),
    ],
    ids=["missing", "image", "two components", "no vectors", "integers", "NaN"],
)
def test_what_is_no_field_is_refused(tmp_path, make, message):
    make(tmp_path / "field.nii.gz")
    with pytest.raises(VolumeError, match=message) as refused:
        read_field(tmp_path / "field.nii.gz")
    assert "field.nii.gz" in str(refused.value)


def test_conventions_refuse_what_they_cannot_say(tmp_path):
    with pytest.raises(VolumeError, match=r"fixed\.nii: lies on .*--format itk"):
        require_convention(Convention.CHALLENGE, LPS, PERMUTED, "fixed.nii")
    with pytest.raises(VolumeError, match="not at right angles"):
        require_convention(Convention.ITK, Grid((4, 4, 4), from_matvec([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])), LPS, "a")


def test_a_field_is_placed_only_where_it_belongs(tmp_path):
    moved_along = Grid(LPS.shape, from_matvec(np.eye(3), (5, 0, 0)) @ LPS.affine)
    write_field(tmp_path / "a.nii.gz", np.zeros((*LPS.shape, 3)), LPS, LPS, Convention.CHALLENGE)
    assert read_field(tmp_path / "a.nii.gz").on(moved_along, tmp_path).grid is moved_along  # voxels know no place
    write_field(tmp_path / "b.nii.gz", np.zeros((*LPS.shape, 3)), LPS, LPS, Convention.ITK)
    for name, other in (("a", PERMUTED), ("b", PERMUTED), ("b", moved_along)):
        with pytest.raises(VolumeError, match=f"{name}.nii.gz: found a field of .*that the field was made for"):
            read_field(tmp_path / f"{name}.nii.gz").on(other, tmp_path / "fixed.nii")
