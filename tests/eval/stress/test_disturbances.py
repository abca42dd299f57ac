"""Every disturbance: nothing at its neutral strength, more with more strength, and what it does where that is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.eval.stress import intensities, lesions, misalignment, resolution, stripping
from lumirkit.eval.stress.chosen import chosen_disturbances
from lumirkit.eval.stress.disturbances import DISTURBANCES
from lumirkit.eval.stress.scan import Scan
from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
from lumirkit.registration.volume import Volume

EVERY = pytest.mark.parametrize("disturbance", DISTURBANCES.values(), ids=lambda each: each.name)
MOVES = {"rotation", "translation", "scale"}
OUTLINE_STAYS = {"bias", "noise", "blur", "gamma", "curve", "inversion", "dark-lesions", "bright-lesions"}


def rng():
    return np.random.default_rng(7)


def scan_of(data, labels=None, mm=(1.0, 1.0, 1.0)):
    data = np.asarray(data, np.float32)
    labels = np.zeros(data.shape, np.int32) if labels is None else labels
    return Scan(Volume("a test", data, np.diag([*mm, 1.0])), labels.astype(np.int32))


@pytest.fixture(scope="module")
def brain() -> Scan:
    spec = PhantomSpec(shape=(48, 56, 50))
    image, labels = make_subject(spec, Subject(3454))
    return scan_of(image, labels)


@pytest.fixture
def ball() -> Scan:
    """A ball of radius 12 that is brighter to one side, of the label 44, in the middle of a grid."""
    x, y, z = np.indices((41, 41, 41)) - 20
    inside = x**2 + y**2 + z**2 <= 12**2
    return scan_of(np.where(inside, 120 + 4 * x, 0), np.where(inside, 44, 0))


def difference(one, other):
    return float(np.sqrt(np.mean((one.image.data - other.image.data) ** 2)))


@EVERY
def test_the_neutral_strength_is_the_identity_to_the_bit(disturbance, brain):
    assert disturbance(brain, disturbance.neutral, [0]) is brain


@EVERY
def test_what_holds_at_every_strength(disturbance, brain):
    before = brain.image.data.copy()
    for strength in disturbance.strengths:
        after = disturbance(brain, strength, [3, 1])
        assert after.image.data.dtype == np.float32
        assert after.labels.dtype == np.int32
        assert after.image.shape == after.labels.shape == brain.image.shape
        shown = after.image.data[after.brain]
        assert shown.min() >= 1
        assert shown.max() <= 255
        assert not after.image.data[~after.brain].any()
        assert difference(after, brain) > 0
        assert (disturbance.name in MOVES) == (not np.array_equal(after.labels, brain.labels))
        if disturbance.name in OUTLINE_STAYS:
            np.testing.assert_array_equal(after.brain, brain.brain)
        again = disturbance(brain, strength, [3, 1])
        np.testing.assert_array_equal(again.image.data, after.image.data)
    np.testing.assert_array_equal(brain.image.data, before)


@EVERY
def test_more_strength_changes_more(disturbance, brain):
    for side in (-1, 1):  # of the neutral strength
        strengths = sorted(
            (each for each in disturbance.strengths if side * (each - disturbance.neutral) > 0),
            key=lambda each: abs(each - disturbance.neutral),
        )
        changes = [difference(disturbance(brain, strength, [3]), brain) for strength in strengths]
        assert changes == sorted(changes)
        assert len(changes) < 2 or changes[-1] > changes[0]  # a small brain may hold a lesion of 2 and of 5 %


@EVERY
def test_close_to_its_neutral_strength_little_changes(disturbance, brain):
    """What is rounded to whole voxels or blobs apart, which can be no less than one."""
    if disturbance.name in {"dilated", "eroded", "holes", "dark-lesions", "bright-lesions"}:
        pytest.skip("it comes in whole voxels")
    after = disturbance(brain, disturbance.neutral + 1e-3, [3])
    assert difference(after, brain) < 0.5


@pytest.mark.parametrize("name", ["bias", "noise", "curve", "holes", "rotation", "translation", "dark-lesions"])
def test_another_seed_is_another_draw(name, brain):
    disturbance = DISTURBANCES[name]
    strength = disturbance.strengths[-1]
    assert difference(disturbance(brain, strength, [0]), disturbance(brain, strength, [1])) > 0


def test_a_bias_of_40_percent_are_factors_from_0_8_to_1_2():
    flat = scan_of(np.full((40, 40, 40), 100))
    after = intensities.bias(flat, 40, rng()).image.data
    assert after.min() == pytest.approx(80, abs=1e-3)
    assert after.max() == pytest.approx(120, abs=1e-3)
    assert max(np.abs(np.diff(after, axis=axis)).max() for axis in range(3)) < 6  # smooth


def test_noise_has_the_moments_of_rice():
    flat = scan_of(np.full((60, 60, 60), 100))
    deviation = 0.1 * 255
    after = intensities.noise(flat, 10, rng()).image.data.astype(np.float64)
    assert np.mean(after**2) == pytest.approx(100**2 + 2 * deviation**2, rel=0.01)
    assert after.std() == pytest.approx(deviation, rel=0.05)


def test_a_blurred_edge_is_that_of_the_gaussian_and_the_rim_is_not_dark():
    step = np.zeros((60, 40, 40))
    step[5:30, 5:35, 5:35], step[30:55, 5:35, 5:35] = 50, 150
    after = intensities.blur(scan_of(step, mm=(2.0, 1.0, 1.0)), 8, rng()).image.data
    across = after[5:55, 20, 20]
    reached = np.interp([75, 125], across, np.arange(50) * 2.0)  # a quarter and three quarters: 1.349 sigma apart
    assert np.diff(reached)[0] == pytest.approx(1.349 * 8 / 2.3548, rel=0.05)
    np.testing.assert_allclose(after[5:9, 5:35, 5:35], 50, atol=0.01)


def test_gamma_is_a_power_and_inversion_an_exchange(brain):
    inside = brain.brain
    gamma = intensities.gamma(brain, 2, rng()).image.data
    np.testing.assert_allclose(gamma[inside], np.maximum(brain.image.data[inside] ** 2 / 255, 1), rtol=1e-5)
    inverse = intensities.inversion(brain, 1, rng())
    np.testing.assert_allclose(inverse.image.data[inside], 256 - brain.image.data[inside])
    np.testing.assert_allclose(intensities.inversion(inverse, 1, rng()).image.data, brain.image.data)
    assert np.ptp(intensities.inversion(brain, 0.5, rng()).image.data[inside]) == 0


def test_a_random_curve_keeps_the_order_of_intensities(brain):
    before, after = brain.image.data[brain.brain], intensities.curve(brain, 1, rng()).image.data[brain.brain]
    assert np.all(np.diff(after[np.argsort(before, kind="stable")]) >= 0)


def test_dilating_and_eroding_a_ball_changes_its_radius(ball):
    distance = np.linalg.norm(np.indices(ball.image.shape) - 20, axis=0)
    wider, smaller = stripping.dilated(ball, 4, rng()), stripping.eroded(ball, 4, rng())
    assert not wider.brain[distance > 16.01].any()
    assert wider.brain[distance < 14.2].all()
    np.testing.assert_array_equal(wider.image.data[ball.brain], ball.image.data[ball.brain])
    assert not smaller.brain[distance > 9.75].any()
    assert smaller.brain[distance < 8].all()
    np.testing.assert_array_equal(smaller.image.data[smaller.brain], ball.image.data[smaller.brain])


def test_the_rim_is_dark_beside_the_brain_and_patchy_beyond(brain):
    after = stripping.dilated(brain, 6, rng())
    distance = distance_transform_edt(~brain.brain)
    fluid, beyond = (
        after.image.data[after.brain & where] for where in ((distance > 0) & (distance <= 2), distance > 2)
    )
    dark, bright = np.percentile(brain.image.data[brain.brain], (5, 95))
    assert fluid.mean() < dark + 0.15 * (bright - dark)
    assert beyond.std() > 0.2 * (bright - dark)
    assert after.image.data[after.brain & ~brain.brain].max() <= bright + 1e-3


def test_distances_are_mm_also_where_voxels_are_not_cubes(ball):
    flat = scan_of(ball.image.data, mm=(1.0, 1.0, 3.0))
    after = stripping.eroded(flat, 3, rng()).brain
    assert after[20, 20].sum() == ball.brain[20, 20].sum() - 2  # one slice on either side
    assert after[:, 20, 20].sum() == ball.brain[:, 20, 20].sum() - 6


def test_holes_are_balls_on_the_surface(ball):
    lost = ball.brain & ~stripping.holes(ball, 4, rng()).brain
    distance = np.linalg.norm(np.indices(ball.image.shape) - 20, axis=0)
    assert distance[lost].min() > 12 - 1 - 4.01
    assert 5 * 4 < lost.sum() < 5 * 4 / 3 * np.pi * 4**3


def test_stripping_everything_away_is_refused(ball):
    with pytest.raises(VolumeError, match="nothing of the brain is left"):
        stripping.eroded(ball, 20, rng())


def test_a_shift_by_whole_voxels_is_exact(ball):
    after = misalignment.moved(ball, np.eye(3), np.array([3.0, -2, 1]))
    np.testing.assert_allclose(after.image.data, np.roll(ball.image.data, (3, -2, 1), (0, 1, 2)), atol=1e-3)
    np.testing.assert_array_equal(after.labels, np.roll(ball.labels, (3, -2, 1), (0, 1, 2)))


def test_a_quarter_turn_is_exact():
    data = np.zeros((21, 21, 21))
    data[4:17, 4:17, 4:17] = np.random.default_rng(0).integers(50, 200, (13, 13, 13))
    labels = (data > 120).astype(np.int32)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x goes to y
    after = misalignment.moved(scan_of(data, labels), turn, np.zeros(3))
    np.testing.assert_allclose(after.image.data, np.rot90(data, 1, (0, 1)), atol=1e-2)
    np.testing.assert_array_equal(after.labels, np.rot90(labels, 1, (0, 1)))


def test_labels_move_with_the_image_in_mm(brain):
    """A shift of 10 mm is one of 5 voxels of 2 mm, for the image and for every structure."""
    data, labels = (np.pad(array, 6) for array in (brain.image.data, brain.labels))
    coarse = scan_of(data, labels, mm=(2.0, 2.0, 2.0))
    after = misalignment.shifted(coarse, 10, rng())
    shift = np.argwhere(after.brain).min(axis=0) - np.argwhere(coarse.brain).min(axis=0)
    assert np.linalg.norm(shift) == pytest.approx(5, abs=0.9)  # whole voxels
    np.testing.assert_array_equal(after.labels, np.roll(labels, shift, (0, 1, 2)))
    np.testing.assert_allclose(after.image.data, np.roll(data, shift, (0, 1, 2)), atol=1e-3)


def test_scaling_by_ten_percent_makes_a_third_more_volume(ball):
    after = misalignment.scaled(ball, 10, rng())
    for counted in (after.brain, after.labels == 44):
        assert counted.sum() == pytest.approx(1.1**3 * ball.brain.sum(), rel=0.03)


def test_a_rotation_keeps_volumes_and_centre(brain):
    after = misalignment.rotated(brain, 20, rng())
    assert after.brain.sum() == pytest.approx(brain.brain.sum(), rel=0.02)
    centre_before, centre_after = (np.argwhere(scan.brain).mean(axis=0) for scan in (brain, after))
    np.testing.assert_allclose(centre_after, centre_before, atol=0.3)


def test_a_ramp_survives_any_resolution_and_fine_stripes_do_not():
    x = np.arange(60.0)
    ramp = scan_of(np.broadcast_to(50 + 2 * x[:, None, None], (60, 24, 24)))
    stripes = scan_of(np.broadcast_to(100 + 50 * np.cos(np.pi * x)[:, None, None], (60, 24, 24)))
    for mm in (0.7, 1.5, 2, 3):
        inner = resolution.voxels(ramp, mm, rng()).image.data[6:-6]
        np.testing.assert_allclose(inner, ramp.image.data[6:-6], atol=0.5)
    np.testing.assert_allclose(resolution.voxels(stripes, 2, rng()).image.data[6:-6], 100, atol=1)
    np.testing.assert_allclose(resolution.slices(stripes, 6, rng()).image.data, stripes.image.data, atol=1e-3)


def test_slices_are_axial_and_the_rim_is_not_dark(brain):
    flat = scan_of(np.where(brain.brain, 90, 0))
    after = resolution.slices(flat, 4, rng())
    np.testing.assert_allclose(after.image.data[after.brain], 90, rtol=1e-4)
    assert after.brain.sum() == pytest.approx(flat.brain.sum(), rel=0.1)


def test_resolution_needs_the_challenges_grid(ball):
    with pytest.raises(VolumeError, match="2 x 1 x 1 mm; expected 1 mm"):
        resolution.voxels(scan_of(ball.image.data, mm=(2.0, 1.0, 1.0)), 2, rng())


@pytest.mark.parametrize("percent", [2, 10])
def test_lesions_take_their_share_of_white_matter_and_nothing_else(percent, brain):
    white = np.isin(brain.labels, (44, 45)) & brain.brain
    dark, bright = (change(brain, percent, rng()) for change in (lesions.dark_lesions, lesions.bright_lesions))
    for after in (dark, bright):
        changed = np.abs(after.image.data - brain.image.data) > 1e-3
        assert not changed[~white].any()
    low = np.percentile(brain.image.data[brain.brain], 5)
    middle = (brain.image.data + low) / 2
    share = 100 * (dark.image.data < middle)[white].mean()
    assert percent <= share + 1 and share < percent + 900 / white.sum() * 100
    assert np.all(
        bright.image.data >= np.minimum(brain.image.data, np.percentile(brain.image.data[brain.brain], 99)) - 1e-3
    )


def test_lesions_need_white_matter(ball):
    with pytest.raises(VolumeError, match="labels 44 and 45"):
        lesions.dark_lesions(replace(ball, labels=np.zeros_like(ball.labels)), 5, rng())


def test_brighter_than_255_is_scaled_as_the_challenge_scales(ball):
    after = ball.showing(2 * ball.image.data)
    factor = 255 / np.percentile(2 * ball.image.data[ball.brain], 99.8)
    expected = np.minimum(2 * ball.image.data * factor, 255)
    np.testing.assert_allclose(after.image.data, expected, rtol=1e-5)


@pytest.mark.parametrize("data", [np.full((4, 4, 4), 0.5), np.full((4, 4, 4), 300), np.full((4, 4, 4), -1)])
def test_other_intensities_than_the_challenges_are_refused(data):
    with pytest.raises(VolumeError, match=r"a test: found intensities from .* expected 0 outside the brain"):
        scan_of(data)


def test_what_a_user_asks_for():
    assert [tried.disturbance.name for tried in chosen_disturbances([])] == list(DISTURBANCES)
    noise, gamma = chosen_disturbances(["noise", "gamma=2,0.5,1"])
    assert noise.strengths == DISTURBANCES["noise"].strengths
    assert gamma.strengths == (0.5, 2)  # in order, and without the one that changes nothing


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("fog", "--disturbance fog: expected one of bias, noise"),
        ("noise=much", "expected numbers with commas"),
        ("noise=-3", "found the strength -3; expected one from 0 to 100"),
        ("noise=nan", "found the strength nan"),
        ("inversion=2", "expected one from 0 to 1"),
        ("gamma=1", "leaves every scan as it is"),
    ],
)
def test_a_request_that_means_nothing(request_, says):
    with pytest.raises(RequestError, match=says):
        chosen_disturbances([request_])


def test_a_disturbance_is_named_once():
    with pytest.raises(RequestError, match="found noise twice"):
        chosen_disturbances(["noise=1", "noise=2"])
