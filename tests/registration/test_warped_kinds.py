"""`lumirkit warp` of the label maps and images that other tools write, through a step along x, whose truth is known."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import VolumeError
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import read_deformation
from lumirkit.registration.field import write_field
from lumirkit.registration.finite_strain import rotation_of
from lumirkit.registration.grid import Grid, flip_lps, to_voxels, voxels_of
from lumirkit.registration.volume import read_labels, write_displacement

SHAPE = (12, 10, 9)
ALLEN = [0, 997, 484682470, 614454277]
FREESURFER = [0, 17, 1035, 12175]


@pytest.fixture
def step(tmp_path):
    """A field by which every voxel takes its right neighbour's value."""
    disp_vox = np.zeros((*SHAPE, 3), np.float32)
    disp_vox[..., 0] = 1
    write_displacement(tmp_path / "field.nii.gz", disp_vox, np.eye(4))
    return tmp_path / "field.nii.gz"


def drawn(ids, rest=()):
    return np.random.default_rng(5).choice(np.array(ids), (*SHAPE, *rest))


def saved(path, values, slope=None, intent=0):
    image = nib.Nifti1Image(values, np.eye(4), dtype=values.dtype)
    image.header["intent_code"] = intent
    if slope is not None:
        image.header.set_slope_inter(slope)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim == 4:
        image.header["pixdim"][4] = 2.5
    nib.save(image, path)
    return path


def warped(command, step, moving, *options):
    out = step.parent / "out.nii.gz"
    assert command("warp", step, "--moving", moving, "--out", out, *options) == (0, "")
    return nib.load(out)


@pytest.mark.parametrize(
    ("values", "slope", "stored"),
    [
        (drawn([0, 3, 5]).astype(np.int64), None, np.int32),
        (drawn([0, 3, 5]).astype(np.uint64), None, np.int32),
        (drawn([0, 3, 4_000_000_000]).astype(np.int64), None, np.uint32),
        (drawn([0, 3, 4_000_000_000]).astype(np.uint32), None, np.uint32),
        (drawn([0, 3, 4_000_000_000]).astype(np.float64), None, np.uint32),
        (drawn(ALLEN).astype(np.float64), None, np.int32),
        (drawn(ALLEN).astype(np.int32), None, np.int32),
        (drawn(FREESURFER).astype(np.int32), None, np.int32),
        (drawn([0, 2, 5]).astype(np.float32) * np.float32(1 + 1e-7), None, np.int32),
        (drawn([-1, 0, 4]).astype(np.int16), None, np.int16),
        (drawn([0, 2, 5]).astype(np.float64), "int16", np.int32),
        (np.zeros(SHAPE, np.uint8), None, np.uint8),
    ],
    ids=[
        "int64",
        "uint64",
        "wide-int64",
        "uint32",
        "wide-float64",
        "Allen-float64",
        "Allen",
        "FreeSurfer",
        "noise",
        "negative",
        "scaled",
        "empty",
    ],
)
def test_every_id_arrives_in_a_type_that_holds_it(command, step, tmp_path, values, slope, stored):
    if slope:
        image = nib.Nifti1Image(values, np.eye(4))
        image.set_data_dtype(slope)  # nibabel finds the scale factor
        nib.save(image, tmp_path / "labels.nii.gz")
    else:
        saved(tmp_path / "labels.nii.gz", values)
    found = warped(command, step, tmp_path / "labels.nii.gz", "--labels")
    assert found.get_data_dtype() == stored
    ids = np.asarray(found.dataobj)
    np.testing.assert_array_equal(ids[:-1], np.rint(values[1:].astype(np.float64)))
    assert not ids[-1].any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(drawn([0, 1]) > 0, 0.5, 3), "voxels are not whole numbers, the first is"),
        (np.where(drawn([0, 1]) > 0, np.nan, 3), "voxels are not whole numbers, the first is nan"),
        (drawn([0, 2**40]).astype(np.int64), "found ids from 0 to 1099511627776"),
        (drawn([0, 2.0**40]), "found ids from 0 to 1099511627776"),
        (drawn([-5, 4_000_000_000]), "found ids from -5 to 4000000000"),
    ],
    ids=["half", "NaN", "int64", "float64", "both signs"],
)
def test_what_is_no_id_is_named(command, step, tmp_path, values, message):
    out = tmp_path / "out.nii.gz"
    moving = saved(tmp_path / "labels.nii.gz", values)
    status, said = command("warp", step, "--moving", moving, "--labels", "--out", out)
    assert (status, out.exists()) == (2, False)
    assert "labels.nii.gz: " in said
    assert message in said


def test_ids_that_single_precision_may_have_changed_are_told_of(command, step, tmp_path):
    moving = saved(tmp_path / "labels.nii.gz", drawn(ALLEN).astype(np.float32))
    status, said = command("warp", step, "--moving", moving, "--labels", "--out", tmp_path / "out.nii.gz")
    assert status == 0
    assert "labels.nii.gz: holds ids beyond 16777216 as float32" in said


def test_scoring_refuses_ids_beyond_its_type(tmp_path):
    with pytest.raises(VolumeError, match="found the id 4000000000; expected ids up to 2147483647"):
        read_labels(saved(tmp_path / "labels.nii.gz", drawn([0, 4_000_000_000]).astype(np.uint32)))
    wide = drawn([-3, 2**31 - 1])
    np.testing.assert_array_equal(read_labels(saved(tmp_path / "labels.nii.gz", wide.astype(np.int64))), wide)


def test_an_empty_map_is_carried(command, step, tmp_path):
    moving = saved(tmp_path / "lesions.nii.gz", np.zeros(SHAPE, np.float32))
    assert not warped(command, step, moving).get_fdata().any()


def test_beyond_the_image_lies_the_fill_value(command, step, tmp_path):
    values = drawn([-1024, 40]).astype(np.int16)
    moving = saved(tmp_path / "ct.nii.gz", values)
    for options in ((), ("--labels",)):
        found = warped(command, step, moving, "--fill", -1024, *options).get_fdata()
        np.testing.assert_array_equal(found[:-1], values[1:])
        assert (found[-1] == -1024).all()


def test_a_label_map_is_filled_with_an_id_that_its_type_holds(command, step, tmp_path):
    moving = saved(tmp_path / "labels.nii.gz", drawn([0, 5]).astype(np.uint8))
    for fill in (-1, 256, 0.5, "nan"):
        out = tmp_path / "out.nii.gz"
        status, said = command("warp", step, "--moving", moving, "--labels", "--fill", fill, "--out", out)
        assert (status, out.exists()) == (2, False)
        assert f"labels.nii.gz: found the fill value {fill}; expected a whole number from 0 to 255" in said


@pytest.mark.parametrize("labels", [False, True])
def test_every_volume_of_a_series_is_carried(command, step, tmp_path, labels):
    values = drawn([0, 70, 100], (4,)).astype(np.int16)
    found = warped(command, step, saved(tmp_path / "bold.nii.gz", values), *(["--labels"] if labels else []))
    np.testing.assert_array_equal(found.get_fdata()[:-1], values[1:])
    assert found.get_data_dtype() == (np.int16 if labels else np.float32)
    assert found.header["pixdim"][4] == 2.5
    assert found.header.get_xyzt_units() == ("mm", "sec")


def test_the_components_of_vectors_are_carried_as_they_are(command, step, tmp_path):
    values = np.random.default_rng(1).standard_normal((*SHAPE, 1, 3)).astype(np.float32)
    found = warped(command, step, saved(tmp_path / "vectors.nii.gz", values, intent=1007))
    assert int(found.header["intent_code"]) == 1007
    np.testing.assert_array_equal(found.get_fdata()[:-1], values[1:])


@pytest.mark.parametrize("rest", [(), (1,)], ids=["RAS", "LPS"])
def test_vectors_turn_with_the_tissue(command, tmp_path, rest):
    """The map turns and stretches from fixed to moving; directions of the moving image turn back."""
    turn = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    grid = Grid(SHAPE, from_matvec(np.diag([-1.5, 1, 1.2]), (8, -5, -5)))
    fixed_mm = apply_affine(grid.affine, voxels_of(grid))
    stretched = turn @ np.diag([1.2, 0.9, 1.0])
    write_field(
        tmp_path / "field.nii.gz", to_voxels(fixed_mm @ stretched.T - fixed_mm, grid, grid), grid, grid, Convention.ITK
    )
    direction = np.array([1.0, 2.0, -2.0]) / 3
    values = np.broadcast_to(flip_lps(direction) if rest else direction, (*SHAPE, *rest, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, grid.affine), tmp_path / "v1.nii.gz")
    request = ("warp", tmp_path / "field.nii.gz", "--moving", tmp_path / "v1.nii.gz", "--out", tmp_path / "out.nii.gz")
    assert command(*request, "--vectors", "rotate") == (0, "")
    found = nib.load(tmp_path / "out.nii.gz").get_fdata().reshape(*SHAPE, 3)[4:8, 4:7, 3:6]
    expected = turn.T @ direction
    np.testing.assert_allclose(found, np.broadcast_to(flip_lps(expected) if rest else expected, found.shape), atol=1e-5)
    assert command(*request) == (0, "")
    kept = nib.load(tmp_path / "out.nii.gz").get_fdata()[4:8, 4:7, 3:6]
    np.testing.assert_allclose(kept, values[4:8, 4:7, 3:6], atol=1e-5)


def test_a_rotation_is_proper_where_the_map_folds():
    folded = np.diag([1.0, 0.8, -0.3])[None]
    np.testing.assert_allclose(np.linalg.det(rotation_of(folded)), 1)


def test_only_vectors_can_be_rotated(command, step, tmp_path):
    moving = saved(tmp_path / "image.nii.gz", drawn([0, 9]).astype(np.float32))
    out = tmp_path / "out.nii.gz"
    status, said = command("warp", step, "--moving", moving, "--vectors", "rotate", "--out", out)
    assert (status, out.exists()) == (2, False)
    assert "image.nii.gz: found shape (12, 10, 9); expected vectors to rotate" in said


def test_a_series_whose_units_nobody_knows_is_carried(command, step, tmp_path):
    values = drawn([0, 70, 100], (2,)).astype(np.int16)
    moving = saved(tmp_path / "bold.nii.gz", values)
    image = nib.load(moving)
    image.header["xyzt_units"] = 5 + 56
    nib.save(nib.Nifti1Image(values, None, image.header), tmp_path / "odd.nii.gz")
    found = warped(command, step, tmp_path / "odd.nii.gz")
    assert found.header.get_xyzt_units() == ("mm", "unknown")
    np.testing.assert_array_equal(found.get_fdata()[:-1], values[1:])


def test_an_image_without_voxels_is_refused(command, step, tmp_path):
    empty, out = saved(tmp_path / "empty.nii.gz", np.zeros((0, 10, 9), np.int16)), tmp_path / "out.nii.gz"
    grid = Grid(SHAPE, np.eye(4))
    write_field(tmp_path / "itk.nii.gz", np.zeros((*SHAPE, 3)), grid, grid, Convention.ITK)
    status, said = command("warp", tmp_path / "itk.nii.gz", "--moving", empty, "--out", out)
    assert (status, out.exists()) == (2, False)
    assert "empty.nii.gz: found shape (0, 10, 9), which has no voxel" in said
    with pytest.raises(VolumeError, match="the moving image: found shape"):
        read_deformation(tmp_path / "itk.nii.gz").warp(nib.Nifti1Image(np.zeros((0, 10, 9), np.int16), np.eye(4)))


def test_a_reason_is_one_line_and_names_types_plainly(command, step, tmp_path):
    """nibabel breaks the line of its message, and calls types that are stored the other way round by signs."""
    whole = saved(tmp_path / "image.nii", drawn([0, 3]).astype(np.int16)).read_bytes()
    (tmp_path / "image.nii").write_bytes(whole[:-100])
    status, said = command("warp", step, "--moving", tmp_path / "image.nii", "--out", tmp_path / "out.nii.gz")
    assert (status, len(said.splitlines())) == (2, 1)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 3), ">i2"), np.eye(4), header), tmp_path / "field.nii.gz")
    request = ("warp", tmp_path / "field.nii.gz", "--moving", step, "--out", tmp_path / "out.nii.gz")
    assert "found a field stored as int16;" in command(*request)[1]
