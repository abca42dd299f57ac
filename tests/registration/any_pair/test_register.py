"""Registration of images on any grids, as the networks' frame makes it, from closed forms and by the command."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from lumirkit.base import extras
from lumirkit.base.errors import VolumeError
from lumirkit.registration.any_pair.files import register_and_warp
from lumirkit.registration.any_pair.frame import normalised
from lumirkit.registration.any_pair.pair_in_frame import PairGrids, framed
from lumirkit.registration.any_pair.start import affine_start, overlapping_start
from lumirkit.registration.convention import Convention
from lumirkit.registration.device import Place
from lumirkit.registration.field import read_field
from lumirkit.registration.grid import Grid, to_mm
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import Volume, read_displacement, read_image, write_volume

OBLIQUE = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
FIXED = from_matvec(np.diag([-1.2, 1.0, 1.3]), (25, -20, -20))  # LAS
MOVING = from_matvec(OBLIQUE @ np.array([[0, 0, 1.1], [-0.9, 0, 0], [0, 1.2, 0]]), (-18, 26, -25))  # PSR, oblique


def silent(text):
    pass


def register_anywhere(register_pair, fixed, moving, affine, say):
    """Register by any function of two images in one frame."""
    pair = framed(fixed, moving, say, affine=affine)
    return pair.grids.on_fixed(register_pair(pair.fixed, pair.moving))


def brain_at(path, affine, shape=(44, 42, 46), centre_mm=(0.0, 0.0, 0.0), scale=200.0):
    """An ellipsoid with soft features in it, placed in the world; the same brain whatever the grid."""
    at_mm = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - centre_mm
    inside = np.square(at_mm / (15, 18, 14)).sum(axis=-1) < 1
    texture = 1 + 0.3 * np.sin(at_mm / 3).prod(axis=-1) + 0.2 * np.sin(at_mm[..., 1] / 5)
    return Volume(path, np.where(inside, scale * texture / 1.5, 0).astype(np.float32), affine)


def translation(disp_mm):
    """Registers by a constant, in the networks' frame."""
    return lambda fixed, moving: np.broadcast_to(np.float32(disp_mm), (*fixed.shape, 3))


@pytest.mark.parametrize(("fixed", "moving"), [(FIXED, FIXED), (FIXED, MOVING), (MOVING, FIXED)])
def test_a_motion_in_the_frame_is_the_same_motion_in_the_world(fixed, moving, tmp_path):
    images = brain_at(tmp_path, fixed), brain_at(tmp_path, moving)
    disp_vox = register_anywhere(translation([2.0, -1.0, 0.5]), *images, affine=False, say=silent)
    disp_ras_mm = to_mm(disp_vox, *map(Grid.from_image, images))
    np.testing.assert_allclose(disp_ras_mm, np.broadcast_to([2.0, -1.0, 0.5], disp_ras_mm.shape), atol=1e-5)


def test_both_images_reach_the_network_in_one_frame(tmp_path):
    """One brain on two grids, with two scales of intensity, is one image there: RAS, 0 to 255, background 0."""
    given = []

    def register_pair(fixed, moving):
        given.extend((fixed, moving))
        return np.zeros((*fixed.shape, 3), np.float32)

    images = brain_at(tmp_path, FIXED, scale=3000), brain_at(tmp_path, MOVING, scale=0.7)
    register_anywhere(register_pair, *images, affine=False, say=silent)
    fixed, moving = given
    assert Grid.from_image(fixed).same_as(Grid.from_image(moving))
    expected = normalised(brain_at(tmp_path, fixed.affine, fixed.shape, scale=3000)).data
    inner = expected > 0
    for axis in range(3):
        inner &= np.roll(expected, 2, axis) > 0
        inner &= np.roll(expected, -2, axis) > 0
    for image in given:
        assert (image.data.min(), image.data.max()) == (0, pytest.approx(255, abs=3))
        assert np.abs(image.data - expected)[inner].mean() < 3
        assert np.mean((image.data > 0) == (expected > 0)) > 0.98


def test_images_in_the_frame_go_to_the_network_as_they_are(tmp_path):
    images = [brain_at(tmp_path, from_matvec(np.eye(3), (-22, -21, -23))) for _ in range(2)]
    field = np.zeros((*images[0].shape, 3), np.float32)

    def register_pair(fixed, moving):
        assert fixed is images[0]
        assert moving.data is images[1].data
        return field

    assert register_anywhere(register_pair, *images, affine=False, say=pytest.fail) is field


@pytest.fixture
def predictor(make_weights):
    return Predictor([make_weights()], Place(torch.device("cpu")))


def test_an_image_registered_to_itself_stays_where_it_is(predictor, tmp_path):
    """The network is symmetric, so equal images give the identity; carried through two grids it still is."""
    image = brain_at(tmp_path, MOVING)
    disp_vox = register_anywhere(predictor, image, image, affine=False, say=silent)
    np.testing.assert_allclose(disp_vox, 0, atol=1e-3)


def test_the_order_of_the_axes_does_not_matter(predictor, phantom_root):
    """Both images with axes reversed and exchanged: the field is that of the images as they were, likewise turned."""
    paths = [phantom_root / f"imagesVal/LUMIRMRI_{n}_0000.nii.gz" for n in (3455, 3454)]
    images = [read_image(path) for path in paths]
    to_psr = nib.orientations.ornt_transform(nib.io_orientation(images[0].affine), nib.orientations.axcodes2ornt("PSR"))
    turned = [nib.Nifti1Image(image.data, image.affine).as_reoriented(to_psr) for image in images]
    disp_vox = register_anywhere(predictor, *images, affine=False, say=pytest.fail)
    found = register_anywhere(
        predictor,
        *(Volume(path, np.asarray(image.dataobj), image.affine) for path, image in zip(paths, turned, strict=True)),
        affine=False,
        say=silent,
    )
    components = [nib.Nifti1Image(disp_vox[..., axis], images[0].affine).as_reoriented(to_psr) for axis in range(3)]
    x, y, z = (np.asarray(component.dataobj) for component in components)
    assert np.abs(disp_vox).max() > 0.5
    np.testing.assert_allclose(found, np.stack([-y, z, x], axis=-1), atol=1e-3)


def test_brains_far_apart_start_with_one_centre_of_mass(tmp_path):
    said = []
    images = (
        brain_at(tmp_path, FIXED),
        brain_at(tmp_path, from_matvec(np.eye(3), (50, 60, -10)), centre_mm=(72, 81, 13)),
    )
    disp_vox = register_anywhere(translation([1.0, 0, 0]), *images, affine=False, say=said.append)
    disp_ras_mm = to_mm(disp_vox, *map(Grid.from_image, images))
    np.testing.assert_allclose(disp_ras_mm, np.broadcast_to([73, 81, 13], disp_ras_mm.shape), atol=0.3)
    assert "overlap by a Dice of 0.00 as the headers place them" in said[0]


def test_brains_that_overlap_start_where_they_are(tmp_path):
    images = brain_at(tmp_path, FIXED), brain_at(tmp_path, MOVING, centre_mm=(0, 0.3, 0.2))
    np.testing.assert_array_equal(overlapping_start(*images, say=pytest.fail), np.eye(4))


def test_brains_some_way_apart_start_with_one_centre_of_mass(tmp_path):
    """Half of them overlap; a network that sees them so pulls them into pieces."""
    said = []
    images = brain_at(tmp_path, FIXED), brain_at(tmp_path, MOVING, centre_mm=(0, 5, 3))
    start = overlapping_start(*images, say=said.append)
    np.testing.assert_allclose(start, from_matvec(np.eye(3), (0, 5, 3)), atol=0.3)
    assert len(said) == 1


def test_brains_that_stay_apart_are_told_of(tmp_path):
    """One is a quarter larger along every axis."""
    said = []
    fixed, moving = brain_at(tmp_path, FIXED), brain_at(tmp_path, MOVING)
    larger = replace(moving, affine=np.diag([1.25, 1.25, 1.25, 1]) @ moving.affine)
    np.testing.assert_array_equal(overlapping_start(fixed, larger, say=said.append), np.eye(4))
    assert len(said) == 1
    assert said[0].startswith("warning")
    assert "use --affine" in said[0]


def test_a_whole_head_in_air_is_told_of():
    """Air at 0 fills half of its box, and what is not air is too much for a brain."""
    said = []
    head = np.zeros((90, 110, 90), np.float32)
    head[10:80, 10:100, 10:80] = 100
    image = Volume("head", head, np.diag([2.0, 2, 2, 1]))
    framed(image, image, said.append)
    assert len([text for text in said if "3.5 litres of it are not background 0, as of a whole head" in text]) == 2


def test_the_affine_start_finds_an_affine(tmp_path):
    pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.standard_normal((40, 40, 40)), 3)
    linear = Rotation.from_euler("z", 12, degrees=True).as_matrix() @ np.diag([1.1, 0.95, 1.0])
    truth = from_matvec(linear, (4, -3, 2))

    def seen_on(affine, world):
        """The brain of a texture, on a grid that sees it through an affine of the world."""
        at_mm = apply_affine(world @ affine, np.moveaxis(np.indices((48, 48, 48)), 0, -1))
        at = np.clip(np.rint(at_mm + 20).astype(int), 0, 39)
        inside = np.square(at_mm / (15, 18, 13)).sum(axis=-1) < 1
        data = np.where(inside, 120 + 2000 * texture[tuple(np.moveaxis(at, -1, 0))], 0).clip(0, 255)
        return Volume(tmp_path, data.astype(np.float32), affine)

    fixed = seen_on(from_matvec(np.diag([-1, 1, 1]), (24, -24, -24)), np.eye(4))
    moving = seen_on(from_matvec(np.eye(3), (-24, -24, -24)), np.linalg.inv(truth))
    corners = np.array([[10, 0, 0], [0, 12, 0], [0, 0, 9], [-10, 0, 0], [0, -12, 0]])
    found = affine_start(fixed, moving, silent)
    np.testing.assert_allclose(apply_affine(found, corners), apply_affine(truth, corners), atol=1.0)


def save(path, image, dtype=np.float32, axes=3):
    data = image.data.astype(dtype)
    write_volume(path, data.reshape((*data.shape, *[1] * (axes - 3))), image.affine)
    return path


@pytest.fixture
def command(lumirkit, make_weights, tmp_path):
    """Run `lumirkit register` in this process on images that it is given; returns its status and what it said."""
    weights = make_weights()

    def run(fixed, moving, *options):
        arguments = ("register", fixed, moving, tmp_path / "field.nii.gz", "--weights", weights, "--device", "cpu")
        ended = lumirkit(*arguments, *options)
        return ended.returncode, ended.stderr

    return run


@pytest.fixture
def pair(tmp_path):
    """Two images of different grids, the second a series of one volume."""
    fixed = save(tmp_path / "fixed.nii.gz", brain_at(tmp_path, FIXED, scale=4000), np.uint16)
    return fixed, save(tmp_path / "moving.nii.gz", brain_at(tmp_path, MOVING, centre_mm=(0, 3, 0)), axes=4)


def test_the_command_writes_a_field_of_itk_where_there_are_two_grids(command, pair, tmp_path):
    status, said = command(*pair, "--moved", tmp_path / "moved.nii.gz")
    assert status == 0, said
    assert "fixed.nii.gz: 44x42x46 voxels of 1.2x1x1.3 mm, LAS" in said
    assert "moving.nii.gz: 44x42x46 voxels of 0.9x1.2x1.1 mm, PSR" in said
    field = read_field(tmp_path / "field.nii.gz")
    assert field.convention is Convention.ITK
    assert field.grid.same_as(Grid.from_file(pair[0]))
    moved = read_image(tmp_path / "moved.nii.gz")
    assert Grid.from_image(moved).same_as(field.grid)
    assert np.mean((moved.data > 0) == (read_image(pair[0]).data > 0)) > 0.8


def test_the_command_writes_the_challenges_field_where_there_is_one_grid(command, tmp_path):
    images = [save(tmp_path / f"{n}.nii", brain_at(tmp_path, FIXED, centre_mm=(0, n, 0))) for n in (0, 3)]
    assert command(*images)[0] == 0
    disp_vox = read_displacement(tmp_path / "field.nii.gz", (44, 42, 46))
    assert command(*images, "--format", "itk")[0] == 0
    np.testing.assert_allclose(
        read_field(tmp_path / "field.nii.gz").disp_vox(Grid.from_file(images[1])), disp_vox, atol=1e-4
    )


def test_masks_take_the_skull_away(command, pair, tmp_path):
    images = [read_image(path, single_volume=True) for path in pair]
    rng = np.random.default_rng(0)
    heads, masks = [], []
    for name, image in zip(("fixed", "moving"), images, strict=True):
        skull = np.where(image.data > 0, image.data, image.data.max() * rng.uniform(0.1, 1, image.shape))
        heads.append(save(tmp_path / f"{name}_head.nii.gz", Volume(image.name, skull, image.affine)))
        mask = Volume(image.name, image.data > 0, image.affine)
        masks += [f"--{name}-mask", save(tmp_path / f"{name}_mask.nii.gz", mask, np.uint8)]
    status, said = command(*heads)
    assert status == 0
    assert "fixed_head.nii.gz: only 0.0 % of its voxels are background 0" in said
    assert "--fixed-mask" in said
    _, said = command(*heads, *masks)
    assert "warning" not in said
    with_masks = read_field(tmp_path / "field.nii.gz").values
    command(*pair)
    np.testing.assert_array_equal(read_field(tmp_path / "field.nii.gz").values, with_masks)


def test_arrays_are_taken_as_they_are_if_asked_to(command, phantom_root, tmp_path):
    """Headers that place both images elsewhere then change nothing."""
    paths = [phantom_root / f"imagesVal/LUMIRMRI_{n}_0000.nii.gz" for n in (3455, 3454)]
    assert command(*paths)[0] == 0
    expected = read_displacement(tmp_path / "field.nii.gz", (32, 40, 34))
    elsewhere = [save(tmp_path / path.name, Volume(path, read_image(path).data, MOVING)) for path in paths]
    status, said = command(*elsewhere, "--as-is")
    assert status == 0
    assert [line.split(" ")[0] for line in said.splitlines()] == ["likeness", "written:"]  # nothing is said of headers
    np.testing.assert_array_equal(read_displacement(tmp_path / "field.nii.gz", (32, 40, 34)), expected)
    assert command(elsewhere[0], tmp_path / "none.nii", "--as-is")[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "challenge"), "Use --format itk"),
        (("--affine", "--as-is"), "expected one of them"),
        (("--moved", "moved.png"), "ends in .nii.gz"),
        (("--fixed-mask", "moving.nii.gz"), "expected a mask, of 0 and 1"),
    ],
)
def test_unusable_requests_are_refused(command, pair, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    status, said = command(*pair, *options)
    assert status == 2
    assert message in said
    assert not (tmp_path / "field.nii.gz").exists()


def test_without_the_extra_an_affine_start_is_refused(command, pair, monkeypatch):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", not_installed)
    status, said = command(*pair, "--affine")
    assert status == 2
    assert said.endswith(
        "--affine needs antspyx; install the extra, in the kit's folder: pip install -e '.[baselines]'\n"
    )


def test_unusable_images_are_refused(command, pair, tmp_path):
    fixed, moving = pair
    image = read_image(fixed)
    broken = {
        "NaN or inf": Volume(fixed, np.where(image.data > 0, np.nan, 0), image.affine),
        "which has no inverse": Volume(fixed, image.data, from_matvec([[1, 1, 0], [1, 1, 0], [0, 0, 1]])),
        "spacing and units": Volume(fixed, image.data, np.diag([1e-3, 1e-3, 1e-3, 1])),
        "brain of 20 to 400 mm": Volume(fixed, image.data, np.diag([1, 1, 1e-8, 1])),
    }
    for message, volume in broken.items():
        path = save(tmp_path / "broken.nii.gz", volume)
        status, said = command(path, moving)
        assert (status, message in said, str(path) in said) == (2, True, True), said
        assert not (tmp_path / "field.nii.gz").exists()


def test_a_network_without_an_answer_writes_nothing(pair, tmp_path, monkeypatch, make_weights):
    monkeypatch.setattr(PairGrids, "on_fixed", lambda *_: np.full((44, 42, 46, 3), np.nan))
    with pytest.raises(VolumeError, match="the network gave NaN or inf"):
        register_and_warp(*pair, tmp_path / "a.nii.gz", [make_weights()], "cpu")
    assert not (tmp_path / "a.nii.gz").exists()


def test_wrong_units_are_refused_before_anything_is_said_of_overlap():
    """A header in metres whose unit says mm: a brain of a thousandth of its size."""
    brain = np.zeros((48, 60, 48), np.float32)
    brain[8:40, 8:50, 8:40] = 100
    fixed, tiny = (Volume(name, brain, affine) for name, affine in (("a", np.eye(4)), ("b", np.diag([1e-3] * 3 + [1]))))
    with pytest.raises(VolumeError, match=r"b: 0\.031 x 0\.041 x 0\.031 mm .* expected a brain of 20 to 400 mm"):
        framed(fixed, tiny, pytest.fail)
