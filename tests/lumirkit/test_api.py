"""`import lumirkit` and its verbs: what they take, what they give, and what they refuse."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import lumirkit
from lumirkit import register
from lumirkit.base.errors import KitError
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.grid import Grid, to_voxels, voxels_of
from lumirkit.registration.volume import read_image, read_labels, write_volume

FIXED = Grid((34, 30, 28), from_matvec(np.diag([-1.0, -1.1, 1.2]), (17, 16, -17)))
TURNED = Rotation.from_euler("xyz", [15, -8, 20], degrees=True).as_matrix() @ [[0, 0, 1.0], [-1.3, 0, 0], [0, 0.9, 0]]
MOVING = Grid((36, 46, 50), from_matvec(TURNED, (-28, 24, -20)))
SHIFT_MM = np.array([1.5, -2.0, 1.0])


@pytest.fixture(scope="module")
def weights(make_weights):
    return lumirkit.load_weights(make_weights(), device="cpu")


@pytest.fixture
def paths(phantom_root):
    return [phantom_root / f"imagesVal/LUMIRMRI_{number}_0000.nii.gz" for number in (3455, 3454)]


def silent(text):
    pass


def deformation(disp_ras_mm, fixed=FIXED, moving=MOVING):
    disp_ras_mm = np.broadcast_to(disp_ras_mm, (*fixed.shape, 3))
    return Deformation(to_voxels(disp_ras_mm, fixed, moving), fixed, moving)


def smooth_motion_mm(grid):
    noise = np.random.default_rng(0).standard_normal((*grid.shape, 3))
    smooth = gaussian_filter(noise, (5, 5, 5, 0))
    return 2 * smooth / np.abs(smooth).max() + SHIFT_MM


def middle_mm(grid, margin=8):
    """Points well inside a grid."""
    inside = np.random.default_rng(1).uniform(margin, np.array(grid.shape) - 1 - margin, (200, 3))
    return apply_affine(grid.affine, inside)


# --- the import


def test_the_import_alone_loads_no_heavy_package():
    code = "import sys, lumirkit; assert not {'torch', 'numpy', 'nibabel'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registering_needs_no_extra():
    code = "import sys; from lumirkit import register; assert not {'omegaconf', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_offers_its_verbs():
    assert {"register", "load_weights", "read_field", "evaluate", "train_recipe", "__version__"} <= set(dir(lumirkit))
    assert all(getattr(lumirkit, name) for name in lumirkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lumirkit.nothing


# --- register


def test_paths_nibabel_images_and_arrays_give_one_field(paths, weights):
    found = lumirkit.register(*paths, weights=weights, say=pytest.fail)
    images = [nib.load(path) for path in paths]
    arrays = [np.asarray(image.dataobj) for image in images]
    assert np.abs(found.disp_vox).max() > 0.5
    in_memory = lumirkit.register(*images, weights=weights, say=pytest.fail)
    affines = {"fixed_affine": images[0].affine, "moving_affine": images[1].affine}
    from_arrays = lumirkit.register(*arrays, weights=weights, say=pytest.fail, **affines)
    for other in (in_memory, from_arrays, lumirkit.register(*map(str, paths), weights=weights)):
        np.testing.assert_array_equal(other.disp_vox, found.disp_vox)
        assert other.fixed.same_as(found.fixed)
        assert other.moving.same_as(found.moving)
    assert found.fixed.same_as(Grid.from_file(paths[0]))


def test_python_and_the_command_make_the_same_files(paths, weights, make_weights, tmp_path, lumirkit):
    found = register(*paths, weights=weights)
    found.save(tmp_path / "python.nii.gz")
    arguments = ("register", *paths, tmp_path / "command.nii.gz", "--weights", make_weights(), "--device", "cpu")
    assert lumirkit(*arguments, "--moved", tmp_path / "moved.nii.gz").returncode == 0
    assert (tmp_path / "python.nii.gz").read_bytes() == (tmp_path / "command.nii.gz").read_bytes()
    np.testing.assert_array_equal(read_image(tmp_path / "moved.nii.gz").data, found.warp(paths[1]))


@pytest.mark.parametrize("as_is", [False, True])
def test_the_inverse_is_the_field_of_the_exchanged_images(paths, weights, as_is):
    found = lumirkit.register(*paths, weights=weights, as_is=as_is)
    exchanged = lumirkit.register(*reversed(paths), weights=weights, as_is=as_is)
    np.testing.assert_allclose(found.inverse.disp_vox, exchanged.disp_vox, atol=1e-4)
    np.testing.assert_array_equal(found.inverse.inverse.disp_vox, found.disp_vox)


def test_there_and_back_is_where_it_started_between_two_grids(paths, weights):
    """The moving image has its axes turned, so that both are resampled."""
    moving = nib.load(paths[1])
    to_psr = nib.orientations.ornt_transform(nib.io_orientation(moving.affine), nib.orientations.axcodes2ornt("PSR"))
    found = lumirkit.register(paths[0], moving.as_reoriented(to_psr), weights=weights, say=silent)
    assert found.inverse.fixed is found.moving
    start_mm = middle_mm(found.fixed)
    back_mm = found.inverse.warp_points(found.warp_points(start_mm))
    assert np.linalg.norm(back_mm - start_mm, axis=1).mean() < 0.2
    assert np.linalg.norm(found.warp_points(start_mm) - start_mm, axis=1).mean() > 0.3


def test_a_mask_is_an_image_too(paths, weights):
    brain = read_image(paths[0])
    inside = brain.data > 0
    head = np.where(inside, brain.data, 90)
    affines = {"fixed_affine": brain.affine}
    masked = lumirkit.register(head, paths[1], weights=weights, fixed_mask=inside, say=silent, **affines)
    np.testing.assert_array_equal(masked.disp_vox, lumirkit.register(*paths, weights=weights).disp_vox)


# --- the field


def test_points_through_a_translation(tmp_path):
    points = middle_mm(FIXED)
    np.testing.assert_allclose(deformation(SHIFT_MM).warp_points(points), points + SHIFT_MM, atol=1e-9)


def test_images_and_labels_through_a_translation_from_any_grid():
    """A ball in the moving space, seen on two grids of it, is the ball where the translation says."""
    found = deformation(SHIFT_MM)

    def ball(grid, centre_mm):
        return np.square(apply_affine(grid.affine, voxels_of(grid)) - centre_mm).sum(axis=-1) < 36

    fine = Grid((80, 80, 80), from_matvec(np.diag([0.5] * 3), [-20] * 3))
    expected = ball(FIXED, -SHIFT_MM)
    for image in (ball(MOVING, 0).astype(np.uint8), nib.Nifti1Image(ball(fine, 0).astype(np.uint8), fine.affine)):
        warped = found.warp(image, labels=True)
        assert warped.dtype == np.uint8
        assert np.mean(warped != expected) < 0.01
        smooth = found.warp(image)
        assert smooth.dtype == np.float32
        assert np.abs(smooth - expected).mean() < 0.02


def test_the_pointwise_inverse_of_a_field_between_two_grids():
    found = deformation(smooth_motion_mm(FIXED))
    start_mm = middle_mm(FIXED)
    there_mm = found.warp_points(start_mm)
    assert np.linalg.norm(there_mm - start_mm, axis=1).min() > 0.5
    np.testing.assert_allclose(found.inverse.warp_points(there_mm), start_mm, atol=0.05)


def test_an_affine_field_has_the_determinant_and_the_inverse_of_its_affine():
    """Far away and turned by a right angle: nothing that an inverse near the identity would find."""
    affine = from_matvec(Rotation.from_euler("z", 90, degrees=True).as_matrix() @ np.diag([1.1, 0.9, 1.2]), (70, 5, 9))
    far = Grid((60, 60, 60), from_matvec(np.eye(3), (41, -25, -21)))
    at_mm = apply_affine(FIXED.affine, voxels_of(FIXED))
    found = deformation(apply_affine(affine, at_mm) - at_mm, FIXED, far)
    np.testing.assert_allclose(found.jacobian(), np.linalg.det(affine), rtol=1e-6)
    assert found.jacobian().shape == FIXED.shape
    start_mm = middle_mm(FIXED)
    np.testing.assert_allclose(found.inverse.warp_points(apply_affine(affine, start_mm)), start_mm, atol=1e-6)


@pytest.mark.parametrize(
    ("moving", "format", "axes"), [(FIXED, "challenge", 4), (FIXED, "itk", 5), (MOVING, "itk", 5), (FIXED, None, 4)]
)
def test_a_saved_field_is_read_as_it_was(tmp_path, moving, format, axes):
    found = deformation(smooth_motion_mm(FIXED), moving=moving)
    found.save(tmp_path / "field.nii.gz", format=format)
    assert nib.load(tmp_path / "field.nii.gz").ndim == axes
    image = nib.Nifti1Image(np.ones(moving.shape, np.uint8), moving.affine)
    again = lumirkit.read_field(str(tmp_path / "field.nii.gz"), moving=image)
    assert again.fixed.same_as(FIXED)
    assert again.moving.same_as(moving)
    np.testing.assert_allclose(again.disp_vox, found.disp_vox, atol=1e-5)


def test_a_field_that_counts_voxels_needs_no_headers(paths, weights, tmp_path):
    """Headers that place the images elsewhere change nothing, from registering to saving and warping."""
    arrays = [read_image(path).data for path in paths]
    moving = nib.Nifti1Image(arrays[1], MOVING.affine)
    found = lumirkit.register(arrays[0], moving, weights=weights, as_is=True, say=pytest.fail)
    expected = lumirkit.register(*arrays, weights=weights, as_is=True)
    np.testing.assert_array_equal(found.disp_vox, expected.disp_vox)
    found.save(tmp_path / "field.nii.gz")
    again = lumirkit.read_field(tmp_path / "field.nii.gz")
    np.testing.assert_array_equal(again.disp_vox, expected.disp_vox)
    np.testing.assert_array_equal(again.warp(moving), expected.warp(arrays[1]))


def test_headers_that_leave_a_choice_are_read_as_the_user_says(paths, weights, tmp_path):
    """A moving image whose sform is wrong and whose qform is right is registered, and carried, by its qform."""
    fixed, moving = (nib.load(path) for path in paths)
    odd = nib.Nifti1Image(np.asarray(moving.dataobj), None, moving.header)
    odd.header.set_qform(moving.affine, 1)
    odd.header.set_sform(from_matvec(np.diag([-1.0, 1, 1]), (40, 0, 9)), 4)
    nib.save(odd, tmp_path / "odd.nii.gz")
    odd = nib.load(tmp_path / "odd.nii.gz")
    expected = lumirkit.register(fixed, moving, weights=weights, say=silent)
    for image in (odd, tmp_path / "odd.nii.gz"):
        said = []
        found = lumirkit.register(fixed, image, weights=weights, header="qform", say=said.append)
        assert not any("--header" in remark for remark in said)
        np.testing.assert_allclose(found.disp_vox, expected.disp_vox, atol=1e-3)
        np.testing.assert_allclose(found.warp(image), expected.warp(moving), atol=0.5)
    found.save(tmp_path / "field.nii.gz", format="itk")
    again = lumirkit.read_field(tmp_path / "field.nii.gz", fixed=fixed, moving=tmp_path / "odd.nii.gz", header="qform")
    np.testing.assert_allclose(again.warp(tmp_path / "odd.nii.gz"), expected.warp(moving), atol=0.5)

    unplaced = []
    for image in (fixed, moving):
        header = nib.Nifti1Header.from_header(image.header)
        header["qform_code"] = header["sform_code"] = 0
        unplaced.append(nib.Nifti1Image.from_bytes(nib.Nifti1Image(np.asarray(image.dataobj), None, header).to_bytes()))
    told = lumirkit.register(*unplaced, weights=weights, orientation="RAS", say=pytest.fail)
    np.testing.assert_allclose(told.disp_vox, expected.disp_vox, atol=1e-3)
    assert nib.aff2axcodes(told.fixed.affine) == ("R", "A", "S")
    with pytest.raises(KitError, match="header: found 'matrix'; expected one of sform, qform"):
        lumirkit.register(fixed, moving, header="matrix")


def test_labels_keep_the_type_that_they_have(tmp_path, phantom_root):
    found = deformation(SHIFT_MM, moving=FIXED)
    labels = np.random.default_rng(0).integers(0, 4000, FIXED.shape)
    path = tmp_path / "labels.nii.gz"
    write_volume(path, labels.astype(np.uint16), FIXED.affine)
    expected = found.warp(labels, labels=True)
    assert expected.dtype == labels.dtype
    for image in (path, nib.load(path), labels.astype(np.uint16)):
        warped = found.warp(image, labels=True)
        assert warped.dtype == np.uint16
        np.testing.assert_array_equal(warped, expected)
    assert found.warp(labels.astype(np.float64), labels=True).dtype == np.int32
    assert read_labels(path).dtype == np.int32


# --- what is refused


BRAIN = np.pad(np.full((24, 24, 24), 90, np.float32), 4)
FLAT = from_matvec([[1, 1, 0], [1, 1, 0], [0, 0, 1]])


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(
    ("fixed", "options", "message"),
    [
        ([1, 2, 3], {}, "the fixed image: found a list; expected a path, a nibabel image or an array"),
        (None, {}, "the fixed image: found a NoneType"),
        ("none.nii.gz", {}, "none.nii.gz: no such file"),
        (BRAIN[0], {}, "the fixed array: found a 2-D volume of shape (32, 32); expected 3-D"),
        (np.where(BRAIN > 0, np.nan, 0), {}, "the fixed array: 13824 voxels are NaN or inf"),
        (np.zeros_like(BRAIN), {}, "the fixed array: every voxel is zero"),
        (BRAIN.astype(complex), {}, "the fixed array: found values of type complex128; expected real numbers"),
        (BRAIN, {"fixed_affine": FLAT}, "the fixed array: found the affine"),
        (BRAIN, {"fixed_affine": np.eye(3)}, "the fixed array: found an affine of shape (3, 3); expected (4, 4)"),
        (nib.Nifti1Image(BRAIN, FLAT), {}, "the fixed image: found the affine"),
        (nib.Nifti1Image(BRAIN, np.eye(4)), {"fixed_affine": np.eye(4)}, "the fixed image: has an affine of its own"),
        (BRAIN, {"fixed_mask": BRAIN[1:] > 0}, "the fixed mask array: found shape (31, 32, 32); expected (32, 32, 32)"),
        (BRAIN, {"moving_mask": BRAIN / 7}, "the moving mask array: found values from"),
        (BRAIN, {"affine_start": True, "as_is": True}, "expected one of them"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused(weights, fixed, options, message):
    with pytest.raises(KitError) as refused:
        lumirkit.register(fixed, BRAIN, weights=weights, say=silent, **options)
    assert str(refused.value).startswith(message) or message == "expected one of them"
    assert message in str(refused.value)


@pytest.mark.wrong_shapes
def test_what_a_field_cannot_do_is_refused(tmp_path):
    found = deformation(SHIFT_MM)
    refusals = {
        "the moving array: found shape (4, 4, 4); expected (36, 46, 50)": lambda: found.warp(np.ones((4, 4, 4))),
        "the moving image: found a dict": lambda: found.warp({}),
        "the points: found an array of shape (3,); expected (n, 3)": lambda: found.warp_points([1, 2, 3]),
        "the points: point 2 is not three finite": lambda: found.warp_points([[0, 0, 0], [0, 0, np.nan]]),
        "the points: point 1 is outside the fixed grid": lambda: found.warp_points([[0, 0, 900]]),
        "the field: lies on": lambda: found.save(tmp_path / "field.nii.gz", format="challenge"),
        "format: found 'mgz'; expected one of challenge, itk": lambda: found.save(tmp_path / "a.nii", format="mgz"),
        f"{tmp_path}/a.png: expected a file name": lambda: found.save(tmp_path / "a.png"),
        "none.nii: no such file": lambda: lumirkit.read_field("none.nii"),
        "convolutions: found 'half'; expected one of auto, float32, bfloat16": lambda: lumirkit.load_weights(
            precision="half"
        ),
        "mask_rule: found '2023'": lambda: lumirkit.evaluate(tmp_path, tmp_path, mask_rule="2023"),
    }
    for message, refused in refusals.items():
        with pytest.raises(KitError) as error:
            refused()
        assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())
