"""Chains of transforms against ANTs applying the same files, and fields made of fields against closed forms."""

import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.processing import resample_from_to
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.transform import Rotation

from lumirkit.registration.convention import Convention
from lumirkit.registration.field import read_field, write_field
from lumirkit.registration.grid import LPS_FROM_RAS, Grid, to_voxels, voxels_of
from lumirkit.registration.itk_affine import read_itk_affine, write_itk_affine
from lumirkit.registration.volume import write_volume

TURN = Rotation.from_euler("xyz", [6, -4, 9], degrees=True).as_matrix()
FIXED = Grid((26, 24, 22), from_matvec(np.diag([-1.0, -1.1, 1.2]), (13, 13, -13)))
MIDDLE = Grid((30, 28, 26), from_matvec(TURN @ np.diag([1.0, 1.0, 1.1]), (-15, -14, -14)))
MOVING = Grid((28, 30, 24), from_matvec(np.diag([1.1, -1.0, 1.2]), (-15, 15, -14)))


def smooth_mm(grid, seed, largest=2.0):
    rng = np.random.default_rng(seed)
    noise = np.stack([gaussian_filter(rng.standard_normal(grid.shape), 4) for _ in range(3)], axis=-1)
    return largest * noise / np.abs(noise).max()


def save_field(path, disp_ras_mm, grid, convention=Convention.ITK):
    write_field(path, to_voxels(disp_ras_mm, grid, grid), grid, grid, convention)
    return path


@pytest.fixture
def chain(tmp_path):
    """Two fields on grids of their own, an affine as text, and a moving and a fixed image."""
    save_field(tmp_path / "f1.nii.gz", smooth_mm(FIXED, 1), FIXED)
    save_field(tmp_path / "f2.nii.gz", smooth_mm(MIDDLE, 2), MIDDLE)
    parameters = [*(TURN * 1.03).ravel(), 1.5, -0.7, 0.4]
    (tmp_path / "affine.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {' '.join(map(str, parameters))}\nFixedParameters: 1 -2 3\n"
    )
    texture = gaussian_filter(np.random.default_rng(4).random(MOVING.shape), 1.5)
    write_volume(tmp_path / "moving.nii.gz", (1e4 * texture).astype(np.float32), MOVING.affine)
    write_volume(tmp_path / "fixed.nii.gz", np.ones(FIXED.shape, np.uint8), FIXED.affine)
    return tmp_path


def applied_by_ants(folder, names, invert=None):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    fixed, moving = (ants.image_read(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    return ants.apply_transforms(fixed, moving, [str(folder / name) for name in names], whichtoinvert=invert).numpy()


INNER = (slice(4, -4),) * 3  # what all of these fields keep within all grids


@pytest.mark.parametrize(
    "names",
    [("f1.nii.gz", "f2.nii.gz", "affine.txt"), ("f2.nii.gz", "affine.txt", "f1.nii.gz"), ("affine.txt", "f2.nii.gz")],
)
def test_ants_applies_a_chain_in_the_same_order(chain, command, names):
    out = chain / "out.nii.gz"
    files = [chain / name for name in names]
    images = ("--moving", chain / "moving.nii.gz", "--like", chain / "fixed.nii.gz")
    assert command("warp", *files, *images, "--out", out) == (0, "")
    found, expected = nib.load(out).get_fdata(), applied_by_ants(chain, names)
    np.testing.assert_allclose(found[INNER], expected[INNER], atol=0.5)  # of a range of thousands
    composed = chain / "composed.nii.gz"
    assert command("compose", *files, "--like", chain / "fixed.nii.gz", "--out", composed) == (0, "")
    np.testing.assert_allclose(applied_by_ants(chain, ["composed.nii.gz"])[INNER], expected[INNER], atol=0.5)


def test_one_field_is_read_on_another_grid_as_ants_reads_it(chain, command):
    """The reference of antsApplyTransforms may be any image."""
    out = chain / "out.nii.gz"
    images = ("--moving", chain / "moving.nii.gz", "--like", chain / "fixed.nii.gz")
    status, said = command("warp", chain / "f2.nii.gz", *images, "--out", out)
    assert status == 0
    assert "f2.nii.gz: lies on another grid than" in said
    expected = applied_by_ants(chain, ["f2.nii.gz"])
    np.testing.assert_allclose(nib.load(out).get_fdata()[INNER], expected[INNER], atol=0.5)


def test_the_inverse_of_an_affine_is_named_as_for_ants(chain, command):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    ants.write_transform(ants.read_transform(str(chain / "affine.txt")), str(chain / "affine.mat"))
    files = (chain / "f1.nii.gz", f"[{chain / 'affine.mat'},1]")
    out = chain / "out.nii.gz"
    assert command("warp", *files, "--moving", chain / "moving.nii.gz", "--out", out) == (0, "")
    expected = applied_by_ants(chain, ["f1.nii.gz", "affine.mat"], [False, True])
    np.testing.assert_allclose(nib.load(out).get_fdata()[INNER], expected[INNER], atol=0.5)


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm"])
@pytest.mark.parametrize("kind", ["AffineTransform", "Euler3DTransform"])
def test_affines_are_read_as_itk_applies_them(tmp_path, kind, suffix):
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    numbers = [*TURN.ravel(), 1, -2, 3] if kind == "AffineTransform" else [0.2, -0.3, 0.4, 1, -2, 3]
    transform = ants.create_ants_transform(kind, dimension=3, parameters=numbers, fixed_parameters=[5, -6, 7])
    ants.write_transform(transform, str(tmp_path / f"a{suffix}"))
    matrix = LPS_FROM_RAS @ read_itk_affine(tmp_path / f"a{suffix}") @ LPS_FROM_RAS
    for point in ([0.0, 0, 0], [10.0, -20, 30]):
        np.testing.assert_allclose(apply_affine(matrix, point), transform.apply_to_point(point), atol=1e-4)


def write_h5(path, *transforms):
    with h5py.File(path, "w") as file:
        file.create_group("TransformGroup")
        for number, (kind, parameters, fixed) in enumerate(transforms):
            file[f"TransformGroup/{number}/TransformType"] = [kind]
            file[f"TransformGroup/{number}/TransformParameters"] = np.array(parameters, np.float64)
            file[f"TransformGroup/{number}/TransformFixedParameters"] = np.array(fixed, np.float64)


def test_ants_applies_its_composite_file_in_the_same_way(chain, command):
    """What a registration of ANTs finds is an affine and a field."""
    ants = pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    nib.save(resample_from_to(nib.load(chain / "moving.nii.gz"), (FIXED.shape, FIXED.affine)), chain / "fixed.nii.gz")
    images = [ants.image_read(str(chain / f"{name}.nii.gz")) for name in ("fixed", "moving")]
    found = ants.registration(
        *images,
        "SyN",
        outprefix=str(chain / "ants_"),
        write_composite_transform=True,
        random_seed=1,
        reg_iterations=(5,),
        aff_iterations=(5,),
        aff_shrink_factors=(1,),
        aff_smoothing_sigmas=(0,),
    )
    out, composed = chain / "out.nii.gz", chain / "composed.nii.gz"
    between = ("--like", chain / "fixed.nii.gz")
    assert command("warp", found["fwdtransforms"], "--moving", chain / "moving.nii.gz", *between, "--out", out)[0] == 0
    expected = applied_by_ants(chain, ["ants_Composite.h5"])
    within = binary_erosion(expected > 0, iterations=2)  # at the rim of the moving image ITK has no value
    assert within.mean() > 0.3
    np.testing.assert_allclose(nib.load(out).get_fdata()[within], expected[within], atol=0.5)
    assert command("compose", found["fwdtransforms"], *between, "--out", composed) == (0, "")
    np.testing.assert_allclose(applied_by_ants(chain, ["composed.nii.gz"])[within], expected[within], atol=0.5)


def test_affines_of_a_file_in_hdf5_follow_each_other_as_in_itk(chain, command):
    """The last of a composite comes first; the inverse of all of them comes in the opposite order."""
    itk = pytest.importorskip("SimpleITK", reason="needs the extra: pip install '.[baselines]'")
    turned, moved = itk.AffineTransform(3), itk.TranslationTransform(3, (4.0, -5.0, 6.0))
    turned.SetMatrix((TURN * 1.05).ravel().tolist())
    both = itk.CompositeTransform([turned, moved])
    (chain / "points.csv").write_text("l,p,s\n1,2,3\n-2,0,1\n")
    file = chain / "both.h5"
    itk.WriteTransform(both, str(file))
    for name, applied in ((file, both), (f"[{file},1]", both.GetInverse())):
        there = chain / "there.csv"
        assert command("warp", name, "--points", chain / "points.csv", "--out", there) == (0, "")
        expected = [applied.TransformPoint(point) for point in ((1.0, 2.0, 3.0), (-2.0, 0.0, 1.0))]
        np.testing.assert_allclose(np.loadtxt(there, delimiter=",", skiprows=1), expected, atol=1e-5)


def test_rigid_similar_and_identical_transforms_are_read_as_itk_applies_them(tmp_path):
    itk = pytest.importorskip("SimpleITK", reason="needs the extra: pip install '.[baselines]'")
    rigid, similar = itk.VersorRigid3DTransform(), itk.Similarity3DTransform()
    rigid.SetParameters((0.2, -0.3, 0.4, 1, -2, 3))
    similar.SetParameters((0.2, -0.3, 0.4, 1, -2, 3, 1.2))
    for transform in (rigid, similar, itk.Transform(3, itk.sitkIdentity)):
        if transform.GetNumberOfFixedParameters():
            transform.SetFixedParameters((5, -6, 7))
        itk.WriteTransform(transform, str(tmp_path / "a.tfm"))
        matrix = LPS_FROM_RAS @ read_itk_affine(tmp_path / "a.tfm") @ LPS_FROM_RAS
        for point in ([0.0, 0, 0], [10.0, -20, 30]):
            np.testing.assert_allclose(apply_affine(matrix, point), transform.TransformPoint(point), atol=1e-4)


def test_points_pass_a_chain(chain, command):
    (chain / "points.csv").write_text("x,y,z\n1,2,3\n-2,0,1\n")
    files = [chain / name for name in ("f1.nii.gz", "affine.txt")]
    request = ("warp", *files, "--points", chain / "points.csv", "--out", chain / "there.csv")
    assert command(*request) == (0, "")
    found = np.loadtxt(chain / "there.csv", delimiter=",", skiprows=1)
    (chain / "alone.csv").write_text("")
    assert command("warp", files[0], "--points", chain / "points.csv", "--out", chain / "alone.csv")[0] == 0
    alone = np.loadtxt(chain / "alone.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(found, apply_affine(read_itk_affine(files[1]), alone), atol=1e-9)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["affine.txt"], "affine.txt: begins with an affine, which has no grid"),
        (["f1.nii.gz", "words.mat"], "words.mat: not a readable transform"),
        (["words.h5"], "words.h5: not a readable transform"),
        (["spline.h5"], "spline.h5: found a BSplineTransform_double_3_3"),
        (["[field.h5,1]"], "asks for the inverse of a field"),
        (["[f1.nii.gz,1]"], "asks for the inverse of a field"),
        (["f1.nii.gz", "gone.txt"], "gone.txt: no such file"),
        (["f1.nii.gz", "gone.h5"], "gone.h5: no such file"),
        (["f1.nii.gz", "flirt.mat"], "flirt.mat: found a matrix in text, as FLIRT writes it"),
        (["f1.nii.gz", "free.lta"], "free.lta: found a transform of FreeSurfer"),
        (["f1.nii.gz", "mni.xfm"], "mni.xfm: found a transform of MINC"),
        (["short.h5"], "3 numbers place a field, not 18"),
        (["empty.h5"], "empty.h5: found no transform"),
        (["f1.nii.gz", "spline.txt"], "found a BSplineTransform_double_3_3"),
        (["f1.nii.gz", "flat.txt"], "which has no inverse"),
        (["f1.nii.gz", "words.txt"], "its first line is not"),
    ],
)
def test_unusable_chains_are_refused(chain, command, files, message):
    head = "#Insight Transform File V1.0\nTransform: {}\nParameters: {}\nFixedParameters: 0 0 0\n"
    (chain / "spline.txt").write_text(head.format("BSplineTransform_double_3_3", "0 0 0"))
    (chain / "flat.txt").write_text(head.format("AffineTransform_double_3_3", "0 " * 12))
    for name in ("words.txt", "words.mat", "words.h5", "free.lta", "mni.xfm"):
        (chain / name).write_text("1 0 0\n")
    (chain / "flirt.mat").write_text("1 0 0 2  \n0 1 0 -3  \n0 0 1 0.5  \n0 0 0 1  \n")
    write_h5(chain / "spline.h5", ("BSplineTransform_double_3_3", [0] * 3, [0] * 3))
    write_h5(chain / "field.h5", ("DisplacementFieldTransform_double_3_3", [0] * 24, [2] * 3 + [0] * 3 + [1] * 12))
    write_h5(chain / "short.h5", ("DisplacementFieldTransform_double_3_3", [0] * 24, [2] * 3))
    write_h5(chain / "empty.h5")
    paths = [f"[{chain / name[1:]}" if name.startswith("[") else chain / name for name in files]
    status, said = command("warp", *paths, "--moving", chain / "moving.nii.gz", "--out", chain / "out.nii.gz")
    assert status == 2
    assert message in said
    assert not (chain / "out.nii.gz").exists()


def test_a_chain_takes_no_field_in_voxels_that_lies_elsewhere(chain, command):
    save_field(chain / "f1.nii.gz", smooth_mm(FIXED, 1), Grid(FIXED.shape, np.eye(4)), Convention.CHALLENGE)
    files, images = [chain / "f1.nii.gz", chain / "affine.txt"], ("--moving", chain / "moving.nii.gz")
    status, said = command("warp", *files, *images, "--like", chain / "fixed.nii.gz", "--out", chain / "out.nii.gz")
    assert status == 2
    assert "f1.nii.gz: lies on" in said


LINEAR = np.array([[1.2, 0.1, 0], [0, 0.9, -0.1], [0.05, 0, 1.1]])


@pytest.mark.parametrize("convention", list(Convention))
def test_determinants_are_those_of_a_linear_map(tmp_path, command, convention):
    fixed_mm = apply_affine(FIXED.affine, voxels_of(FIXED))
    field = save_field(tmp_path / "field.nii.gz", fixed_mm @ LINEAR.T - fixed_mm, FIXED, convention)
    for options, expected in (((), np.linalg.det(LINEAR)), (("--log",), np.log(np.linalg.det(LINEAR)))):
        assert command("jacobian", field, "--out", tmp_path / "det.nii.gz", *options) == (0, "")
        found = nib.load(tmp_path / "det.nii.gz")
        assert (found.shape, found.get_data_dtype()) == (FIXED.shape, np.float32)
        np.testing.assert_allclose(found.get_fdata(), expected, atol=1e-4)


def test_folds_are_told_of_and_their_logarithm_is_finite(tmp_path, command):
    fixed_mm = apply_affine(FIXED.affine, voxels_of(FIXED))
    field = save_field(tmp_path / "field.nii.gz", fixed_mm * [-1, 1, 1] - fixed_mm, FIXED, Convention.CHALLENGE)
    status, said = command("jacobian", field, "--out", tmp_path / "det.nii.gz", "--log")
    assert status == 0
    assert f"field.nii.gz: folds at {np.prod(FIXED.shape)} voxels" in said
    np.testing.assert_allclose(nib.load(tmp_path / "det.nii.gz").get_fdata(), np.log(1e-9), rtol=1e-6)
    assert "no inverse" in command("invert", field, "--out", tmp_path / "inverse.nii.gz")[1]


@pytest.mark.parametrize("convention", list(Convention))
def test_a_field_and_its_inverse_compose_to_nothing(tmp_path, command, convention):
    field = save_field(tmp_path / "field.nii.gz", smooth_mm(FIXED, 3), FIXED, convention)
    inverse, both = tmp_path / "inverse.nii.gz", tmp_path / "both.nii.gz"
    assert command("invert", field, "--out", inverse) == (0, "")
    assert command("compose", inverse, field, "--out", both) == (0, "")
    left = read_field(both)
    assert (read_field(inverse).convention, left.convention) == (convention, convention)
    assert np.abs(left.disp_ras_mm(FIXED)[INNER]).max() < 0.05  # fields are linear between voxels
    assert np.abs(read_field(inverse).disp_ras_mm(FIXED)).max() > 1


def test_a_written_affine_is_read_as_it_was(tmp_path):
    matrix = np.eye(4)
    matrix[:3] = np.random.default_rng(5).normal(size=(3, 4))
    write_itk_affine(tmp_path / "affine.txt", matrix)
    np.testing.assert_allclose(read_itk_affine(tmp_path / "affine.txt"), matrix, rtol=0, atol=1e-15)
