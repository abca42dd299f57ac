"""`lumirkit warp` and `lumirkit export`, from closed forms and against ANTs applying the same fields."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import center_of_mass, gaussian_filter
from scipy.spatial.transform import Rotation

from lumirkit.eval.metrics.shared.warping import warp_labels
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import read_field, write_field
from lumirkit.registration.grid import Grid, to_voxels, voxels_of
from lumirkit.registration.volume import write_displacement, write_vectors, write_volume
from lumirkit.registration.warp_arrays import warp

OBLIQUE = Rotation.from_euler("xyz", [15, -8, 20], degrees=True).as_matrix()
LPS = Grid((34, 30, 28), from_matvec(np.diag([-1.0, -1.1, 1.2]), (17, 16, -17)))
PERMUTED = Grid((26, 36, 40), from_matvec(OBLIQUE @ np.array([[0, 0, 1.0], [-1.3, 0, 0], [0, 0.9, 0]]), (-20, 20, -17)))
GRIDS = {"one": (LPS, LPS), "two": (LPS, PERMUTED), "two, exchanged": (PERMUTED, LPS), "one, oblique": (PERMUTED,) * 2}
pairs = pytest.mark.parametrize(("fixed", "moving"), GRIDS.values(), ids=GRIDS)
RIGHT_MM = np.array([2.0, -3.0, 1.5])


class Files:
    """A fixed and a moving grid, a smooth field between them, and what is given to the command."""

    def __init__(self, folder, fixed, moving):
        self.folder, self.fixed, self.moving = folder, fixed, moving
        self.field, self.like, self.image, self.labels, self.out = (
            folder / f"{name}.nii.gz" for name in ("field", "like", "image", "labels", "out")
        )
        rng = np.random.default_rng(3)
        texture = gaussian_filter(rng.random(moving.shape), 2)
        write_volume(self.image, (1e4 * texture).astype(np.uint16), moving.affine)
        write_volume(self.labels, (texture > texture.mean()).astype(np.uint16) * 4001 + 7, moving.affine)
        write_volume(self.like, np.ones(fixed.shape, np.uint8), fixed.affine)
        noise = np.stack([gaussian_filter(rng.standard_normal(fixed.shape), 4) for _ in range(3)], axis=-1)
        self.write(3 * noise / np.abs(noise).max() + [0.5, 1, -0.7])

    def write(self, disp_ras_mm, convention=Convention.ITK):
        disp_vox = to_voxels(np.broadcast_to(disp_ras_mm, (*self.fixed.shape, 3)), self.fixed, self.moving)
        write_field(self.field, disp_vox, self.fixed, self.moving, convention)

    def inside(self):
        """Fixed voxels that the field takes well into the moving grid: beyond it tools fill differently."""
        at = voxels_of(self.fixed) + read_field(self.field).disp_vox(self.moving)
        return ((at > 0.01) & (at < np.array(self.moving.shape) - 1.01)).all(axis=-1)


@pytest.fixture
def files(tmp_path):
    return lambda fixed=LPS, moving=LPS: Files(tmp_path, fixed, moving)


@pairs
@pytest.mark.parametrize("labels", [False, True], ids=["image", "labels"])
def test_ants_makes_the_same_of_the_field(files, command, fixed, moving, labels):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    given = files(fixed, moving)
    source = given.labels if labels else given.image
    options = ("--labels",) if labels else ()
    assert command("warp", given.field, "--moving", source, "--out", given.out, *options) == (0, "")
    expected = ants.apply_transforms(
        fixed=ants.image_read(str(given.like)),
        moving=ants.image_read(str(source)),
        transformlist=[str(given.field)],
        interpolator="nearestNeighbor" if labels else "linear",
    ).numpy()
    found, inside = nib.load(given.out).get_fdata(), given.inside()
    assert inside.mean() > 0.5
    if labels:
        assert np.mean(found[inside] == expected[inside]) > 0.9999  # but for halves, which rounding decides
        assert set(np.unique(found[inside])) == {7, 4008}
    else:
        np.testing.assert_allclose(found[inside], expected[inside], atol=1)  # of a range of thousands


def test_ants_makes_the_same_of_an_exported_field(files, command, tmp_path):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    given = files(PERMUTED, PERMUTED)
    exported = tmp_path / "warp.nii.gz"
    given.write(read_field(given.field).disp_ras_mm(PERMUTED), Convention.CHALLENGE)
    images = ("--fixed", given.like, "--moving", given.image)
    assert command("export", given.field, *images, "--out", exported) == (0, "")
    assert command("warp", given.field, "--moving", given.image, "--out", given.out) == (0, "")
    fixed, moving = (ants.image_read(str(path)) for path in (given.like, given.image))
    expected = ants.apply_transforms(fixed, moving, [str(exported)]).numpy()
    found, inside = nib.load(given.out).get_fdata(), given.inside()
    np.testing.assert_allclose(found[inside], expected[inside], atol=1)


def test_a_field_exported_and_taken_back_is_the_same(files, command, tmp_path):
    given = files(PERMUTED, PERMUTED)
    images = ("--fixed", given.like, "--moving", given.image)
    for name, source, convention in (("voxels", given.field, "challenge"), ("mm", tmp_path / "voxels.nii.gz", "itk")):
        assert command("export", source, *images, "--out", tmp_path / f"{name}.nii.gz", "--format", convention)[0] == 0
    assert nib.load(tmp_path / "voxels.nii.gz").shape == (*PERMUTED.shape, 3)
    there_and_back = read_field(tmp_path / "mm.nii.gz")
    assert there_and_back.convention is Convention.ITK
    np.testing.assert_allclose(there_and_back.values, read_field(given.field).values, atol=1e-5)


def test_an_exported_field_follows_the_header_of_the_moving_image(files, command, tmp_path):
    """Voxel by voxel the arrays agree; in the world the moving image lies elsewhere, and ITK must be told."""
    given = files()
    write_displacement(given.field, np.zeros((*LPS.shape, 3), np.float32), LPS.affine)
    moved_along = from_matvec(np.eye(3), RIGHT_MM) @ LPS.affine
    write_volume(given.image, np.ones(LPS.shape, np.uint8), moved_along)
    images = ("--fixed", given.like, "--moving", given.image)
    assert command("export", given.field, *images, "--out", tmp_path / "warp.nii.gz") == (0, "")
    disp_ras_mm = read_field(tmp_path / "warp.nii.gz").disp_ras_mm(LPS)
    np.testing.assert_allclose(disp_ras_mm, np.broadcast_to(RIGHT_MM, disp_ras_mm.shape), atol=1e-5)


@pairs
def test_points_go_where_the_image_comes_from(files, command, tmp_path, fixed, moving):
    """The centroid of a blob on the fixed grid, carried as a point, is that of the blob it was pulled from."""
    given = files(fixed, moving)
    given.write(RIGHT_MM)
    centre_mm = np.array([2.0, 4.0, -2.0])
    squared = np.square(apply_affine(moving.affine, voxels_of(moving)) - centre_mm).sum(axis=-1)
    write_volume(given.image, (1000 * np.exp(-squared / 10)).astype(np.float32), moving.affine)
    assert command("warp", given.field, "--moving", given.image, "--out", given.out, "--like", given.like)[0] == 0
    warped = nib.load(given.out)
    seen_mm = apply_affine(warped.affine, center_of_mass(warped.get_fdata()))
    pd.DataFrame([seen_mm], columns=["x", "y", "z"]).to_csv(tmp_path / "points.csv", index=False)
    assert command("warp", given.field, "--points", tmp_path / "points.csv", "--out", tmp_path / "there.csv")[0] == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "there.csv").to_numpy()[0], centre_mm, atol=0.1)


def test_points_keep_their_other_columns(files, command, tmp_path):
    given = files()
    given.write(RIGHT_MM, Convention.CHALLENGE)
    (tmp_path / "points.csv").write_text('name,z,y,x\nleft ear,1,2,3\n"a, b",0.5,-2,-3\n')
    assert command("warp", given.field, "--points", tmp_path / "points.csv", "--out", tmp_path / "there.csv")[0] == 0
    table = pd.read_csv(tmp_path / "there.csv")
    assert list(table.columns) == ["name", "z", "y", "x"]
    assert list(table["name"]) == ["left ear", "a, b"]
    np.testing.assert_allclose(table[["x", "y", "z"]], [[5, -1, 2.5], [-1, -5, 2]], atol=1e-5)


def test_labels_keep_their_type_and_images_become_float(files, command):
    given = files(LPS, PERMUTED)
    assert command("warp", given.field, "--moving", given.labels, "--out", given.out, "--labels")[0] == 0
    image = nib.load(given.out)
    assert image.get_data_dtype() == np.uint16
    assert image.shape == LPS.shape
    np.testing.assert_allclose(image.affine, LPS.affine, atol=1e-5)
    assert command("warp", given.field, "--moving", given.image, "--out", given.out)[0] == 0
    assert nib.load(given.out).get_data_dtype() == np.float32


@given(st.integers(0, 10**6))
def test_labels_within_the_grid_are_those_that_the_evaluator_sees(seed):
    rng = np.random.default_rng(seed)
    moving = rng.integers(0, 200, (6, 5, 4)).astype(np.int32)
    disp_vox = rng.uniform(-3, 3, (6, 5, 4, 3))
    at = voxels_of(Grid((6, 5, 4), np.eye(4))) + disp_vox
    inside = ((at >= 0) & (at <= [5, 4, 3])).all(axis=-1)
    np.testing.assert_array_equal(warp(moving, disp_vox, nearest=True)[inside], warp_labels(moving, disp_vox)[inside])


def test_beyond_the_moving_grid_there_is_nothing():
    disp_vox = np.zeros((8, 8, 8, 3), np.float32)
    disp_vox[..., 0] = 3
    for nearest in (True, False):
        warped = warp(np.full((8, 8, 8), 9, np.int32), disp_vox, nearest)
        assert (warped[:5] == 9).all()
        assert not warped[5:].any()


def test_images_on_voxels_need_no_headers_but_are_told_of_them(files, command):
    """As the challenge's evaluator, which reads arrays."""
    given = files()
    given.write(RIGHT_MM, Convention.CHALLENGE)
    assert command("warp", given.field, "--moving", given.image, "--out", given.out) == (0, "")
    expected = nib.load(given.out).get_fdata()
    write_volume(given.image, np.asarray(nib.load(given.image).dataobj), np.eye(4))
    status, said = command("warp", given.field, "--moving", given.image, "--out", given.out)
    assert status == 0
    assert "image.nii.gz: its header places it elsewhere" in said
    np.testing.assert_array_equal(nib.load(given.out).get_fdata(), expected)


def refused(result, *parts):
    status, said = result
    assert status == 2
    for part in parts:
        assert part in said


def test_a_field_that_fits_neither_image_is_refused(files, command, tmp_path):
    given = files(LPS, PERMUTED)
    warp_to = ("--out", given.out)
    write_displacement(given.field, np.zeros((*LPS.shape, 3), np.float32), LPS.affine)
    refused(command("warp", given.field, "--moving", given.image, *warp_to), "image.nii.gz: found shape", "one grid")
    refused(command("warp", given.field, "--moving", given.like, "--like", given.image, *warp_to), "made for")
    images = ("--fixed", given.like, "--moving", given.image)
    refused(command("export", given.field, *images, *warp_to), "image.nii.gz: found shape")
    assert not given.out.exists()


def test_an_export_that_the_convention_cannot_say_is_refused(files, command):
    given = files(LPS, PERMUTED)
    images = ("--fixed", given.like, "--moving", given.image)
    refused(command("export", given.field, *images, "--out", given.out, "--format", "challenge"), "--format itk")
    assert not given.out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a readable CSV file"),
        ("", "not a readable CSV file"),
        ("a,b\n1,2\n", "found the columns a, b; expected x, y and z"),
        ("x,y,z\n1,2,3\n4,five,6\n7,8,\n", "points 2, 3 are not three finite numbers"),
        ("x,y,z\n0,0,inf\n", "point 1 is not three finite numbers"),
        ("x,y,z\n0,0,0\n" + "0,0,90\n" * 7, "points 2, 3, 4, 5, 6 and 2 more are outside the fixed grid"),
    ],
    ids=["missing", "empty", "columns", "words", "inf", "outside"],
)
def test_unusable_points_are_refused(files, command, tmp_path, text, message):
    given, out = files(), tmp_path / "there.csv"
    if text is not None:
        (tmp_path / "points.csv").write_text(text)
    refused(command("warp", given.field, "--points", tmp_path / "points.csv", "--out", out), "points.csv: ", message)
    assert not out.exists()


def test_unusable_requests_are_refused(files, command, tmp_path):
    given = files()
    to_file = ("--moving", given.image, "--out", given.out)
    refused(command("warp", given.field, "--out", given.out), "expected --moving")
    refused(command("warp", tmp_path / "none.nii.gz", *to_file), "none.nii.gz: no such file")
    refused(
        command("warp", given.field, "--moving", tmp_path / "none.nii", "--out", given.out), "none.nii: no such file"
    )
    refused(command("warp", given.field, "--moving", given.image, "--out", tmp_path / "a.png"), "ends in .nii.gz")
    refused(command("warp", given.image, *to_file), "image.nii.gz: found shape (34, 30, 28); expected a field")
    write_volume(given.image, np.full(LPS.shape, 0.5, np.float32), LPS.affine)
    refused(command("warp", given.field, *to_file, "--labels"), "not whole numbers")
    write_vectors(given.field, np.full((*LPS.shape, 3), np.nan), LPS.affine)
    refused(command("warp", given.field, *to_file), "NaN or inf")
    assert not given.out.exists()


def test_a_field_in_voxels_carries_no_image_whose_axes_run_otherwise(files, command):
    """Both are cubes, so the shapes do not tell."""
    cube = Grid((20, 20, 20), from_matvec(np.eye(3), (-10, -9, -8)))
    turned = Grid(cube.shape, from_matvec(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), (10, -9, 10)))
    given = files(cube, cube)
    given.write([1.0, 0, 0], Convention.CHALLENGE)
    write_volume(given.image, np.ones(turned.shape, np.uint8), turned.affine)
    for like in ((), ("--like", given.like)):
        status, said = command("warp", given.field, "--moving", given.image, "--out", given.out, *like)
        assert status == 2
        assert "its axes run LIA, those of" in said
        assert "lumirkit export" in said
        assert not given.out.exists()


def test_a_field_that_single_precision_cannot_say_is_refused(files, command):
    """An origin of 4e9 mm, as a damaged header has it: float32 counts in steps of 256 mm there."""
    given = files()
    write_displacement(given.field, np.ones((*LPS.shape, 3), np.float32), LPS.affine)
    write_volume(given.image, np.ones(LPS.shape, np.uint8), from_matvec(LPS.affine[:3, :3], (4e9, 0, 0)))
    images = ("--fixed", given.like, "--moving", given.image)
    refused(command("export", given.field, *images, "--out", given.out), "out.nii.gz: the field reaches 4e+09 mm")
    assert not given.out.exists()
