"""Where headers place images, with ITK's own reading as the referee."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import require_convention
from lumirkit.registration.grid import LPS_FROM_RAS, Grid
from lumirkit.registration.header import HeaderChoice, header_remark, place_of
from lumirkit.registration.header_form import HeaderForm
from lumirkit.registration.volume import read_affine, write_displacement, write_volume

SHAPE = (16, 18, 14)
SFORM = from_matvec(np.diag([1.0, 1.2, -0.9]), (-24, -28, 26))
QFORM = from_matvec(np.array([[0, 0, 0.9], [-1, 0, 0], [0, 1.2, 0]]), (-4, -38, -6))
SHEARED = from_matvec(np.array([[1, 0.2, 0], [0, 1.2, 0], [0, 0, 0.9]]), (-24, -28, -26))


def image(sform=SFORM, sform_code=0, qform=QFORM, qform_code=0, units="mm", spacing=None):
    blank = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None)
    blank.header.set_qform(qform, qform_code)
    blank.header.set_sform(sform, sform_code)
    blank.header["qform_code"] = qform_code
    if spacing is not None:
        blank.header["pixdim"][1:4] = spacing
    blank.header.set_xyzt_units(units)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[3:9, 4:12, 5:10] = 1 + np.arange(8)[:, None] % 3
    return nib.Nifti1Image.from_bytes(nib.Nifti1Image(voxels, None, blank.header).to_bytes())


def saved(path, **header):
    nib.save(image(**header), path)
    return path


def read_by_itk(path):
    ants = pytest.importorskip("ants")
    seen = ants.image_read(str(path))
    return LPS_FROM_RAS @ from_matvec(seen.direction @ np.diag(seen.spacing), seen.origin)


@pytest.mark.parametrize("units", ["mm", "meter", "micron"])
@pytest.mark.parametrize(
    "header",
    [
        {},
        *({"qform_code": q, "sform_code": s} for q in (0, 1, 2) for s in (0, 1, 2, 4) if q or s),
        {"qform_code": 1, "sform_code": 1, "sform": SHEARED},
        {"qform_code": 0, "sform_code": 2, "spacing": (2, 2, 2)},
    ],
    ids=str,
)
def test_itk_sees_an_image_where_the_kit_says_it_does(header, units, tmp_path):
    path = saved(tmp_path / "image.nii.gz", units=units, **header)
    np.testing.assert_allclose(Grid.from_file(path).seen_by_itk.affine, read_by_itk(path), rtol=1e-5, atol=1e-4)


def test_units_that_a_header_names_are_read_as_mm(tmp_path):
    in_metres = from_matvec(SFORM[:3, :3] / 1000, SFORM[:3, 3] / 1000)
    path = saved(tmp_path / "image.nii.gz", sform=in_metres, sform_code=2, units="meter")
    np.testing.assert_allclose(read_affine(path), SFORM, rtol=1e-6)


def test_the_user_says_which_form_is_right():
    both = image(sform_code=4, qform_code=1)
    remark = header_remark(both, "a.nii.gz")
    assert remark is not None
    for words in ("a.nii.gz", "sform (code 4)", "qform (code 1)", "ANTs and ITK take the qform", "--header"):
        assert words in remark
    for choice, expected in ((None, SFORM), (HeaderForm.SFORM, SFORM), (HeaderForm.QFORM, QFORM)):
        np.testing.assert_allclose(place_of(both, "a", HeaderChoice(choice)).affine, expected, atol=1e-5)
    assert header_remark(both, "a", HeaderChoice(HeaderForm.SFORM)) is None
    assert header_remark(image(sform_code=2), "a") is None


def test_forms_that_differ_by_a_rounding_are_one():
    nearly = from_matvec(SFORM[:3, :3], SFORM[:3, 3] + 0.003)
    assert header_remark(image(sform_code=1, qform=nearly, qform_code=1), "a") is None


def test_a_header_that_says_nothing_is_a_guess_until_the_user_says_how_its_axes_run():
    silent = image()
    remark = header_remark(silent, "a.nii.gz")
    assert remark is not None
    assert "a.nii.gz" in remark
    assert "--orientation" in remark
    assert place_of(silent, "a").is_guess
    said = place_of(silent, "a", HeaderChoice(orientation="PSR"))
    assert not said.is_guess
    assert nib.aff2axcodes(said.affine) == ("P", "S", "R")
    middle = (np.array(SHAPE) - 1) / 2
    np.testing.assert_allclose(said.affine[:3, :3] @ middle + said.affine[:3, 3], 0, atol=1e-5)
    guess = Grid(SHAPE, np.eye(4), is_guess=True)
    with pytest.raises(VolumeError, match="--orientation"):
        require_convention(Convention.ITK, guess, guess, "a.nii.gz")


@pytest.mark.parametrize("words", ["", "RA", "RAL", "RAX", "RASS"])
def test_what_is_no_orientation_is_refused(words):
    with pytest.raises(RequestError, match="--orientation"):
        place_of(image(), "a", HeaderChoice(orientation=words))


@pytest.mark.parametrize("options", [[], ["--header", "sform"], ["--header", "qform"]], ids=" ".join)
def test_ants_applies_a_field_to_images_of_two_forms_as_the_kit_does(options, tmp_path, lumirkit):
    """A field in voxels carries labels by three voxels; as a field of ITK's it does so in ANTs, and in `warp`."""
    ants = pytest.importorskip("ants")
    moving = saved(tmp_path / "moving.nii.gz", sform_code=4, qform_code=1)
    labels = np.asarray(nib.load(moving).dataobj)
    field, itk, out = (tmp_path / f"{name}.nii.gz" for name in ("field", "itk", "out"))
    write_displacement(field, np.broadcast_to(np.float32([1, -2, 0]), (*SHAPE, 3)), SFORM)
    expected = np.roll(labels, (-1, 2, 0), (0, 1, 2))

    def run(*words):
        assert lumirkit(*words, *options).returncode == 0

    run("export", field, "--fixed", moving, "--moving", moving, "--out", itk)
    by_ants = ants.apply_transforms(*[ants.image_read(str(moving))] * 2, [str(itk)], interpolator="nearestNeighbor")
    np.testing.assert_array_equal(by_ants.numpy(), expected)
    for like in ([], ["--like", moving]):
        run("warp", itk, "--moving", moving, "--labels", "--out", out, *like)
        np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), expected)


def test_a_field_of_itk_follows_the_orientation_that_the_user_says(tmp_path, lumirkit):
    silent = saved(tmp_path / "silent.nii.gz")
    field, itk = tmp_path / "field.nii.gz", tmp_path / "itk.nii.gz"
    write_displacement(field, np.zeros((*SHAPE, 3), np.float32), np.eye(4))
    words = ("export", field, "--fixed", silent, "--moving", silent, "--out", itk)
    for more, status in (([], 2), (["--orientation", "LPS"], 0)):
        assert lumirkit(*words, *more).returncode == status
        assert itk.exists() == (status == 0)
    np.testing.assert_allclose(read_by_itk(silent), Grid.from_file(itk).affine, atol=1e-5)


def test_ordinary_images_are_where_they_were(tmp_path):
    path = tmp_path / "image.nii.gz"
    write_volume(path, np.ones(SHAPE, np.uint8), SFORM)
    np.testing.assert_array_equal(read_affine(path), nib.load(path).affine)
    assert Grid.from_file(path).itk_affine is None


def test_units_of_time_that_nobody_knows_leave_those_of_space(tmp_path):
    in_metres = image(sform=from_matvec(SFORM[:3, :3] / 1000, SFORM[:3, 3] / 1000), sform_code=2)
    in_metres.header["xyzt_units"] = 1 + 56
    nib.save(in_metres, tmp_path / "image.nii.gz")
    np.testing.assert_allclose(read_affine(tmp_path / "image.nii.gz"), SFORM, rtol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "header",
    [
        {"sform": np.diag([1.0, 1, 0, 1]), "sform_code": 2, "qform_code": 1},
        {"sform": np.diag([1.0, np.inf, 1, 1]), "sform_code": 2, "qform_code": 1},
        {"spacing": (1, np.nan, 1)},
        {"spacing": (1, np.inf, 1), "sform_code": 2, "qform_code": 1},
    ],
    ids=["flat", "inf", "nothing said, NaN", "spacing of inf"],
)
def test_of_broken_headers_a_remark_can_be_made_without_noise(header):
    """A file that cannot be used for them is refused where its grid is needed."""
    broken = image(**header)
    header_remark(broken, "a.nii.gz")
    place_of(broken, "a.nii.gz")


def test_places_of_small_voxels_are_told_apart(tmp_path):
    """Five voxels of a micrometre are less than the rounding of ordinary headers."""
    micron = Grid(SHAPE, np.diag([1e-3, 1e-3, 1e-3, 1]))
    five_further = Grid(SHAPE, from_matvec(micron.affine[:3, :3], (5e-3, 0, 0)))
    assert not micron.same_as(five_further)
    assert micron.same_as(Grid(SHAPE, from_matvec(micron.affine[:3, :3], (2e-5, 0, 0))))
    path = saved(tmp_path / "image.nii.gz", sform=five_further.affine, sform_code=4, qform=micron.affine, qform_code=1)
    np.testing.assert_allclose(Grid.from_file(path).seen_by_itk.affine, micron.affine, atol=1e-8)
    assert "the two forms of its header differ" in header_remark(nib.load(path), "a.nii.gz")
