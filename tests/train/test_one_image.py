"""Pairs of one image: the true field makes the copy, and every factor does what it is called."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from lumirkit.registration.jacobian import jacobian_determinants, non_diffeomorphic_volume
from lumirkit.registration.spline_noise import spline_noise
from lumirkit.registration.warp import sample, sample_nearest
from lumirkit.train.one_image import OneImage, pair_from_image

SHAPE = (32, 40, 36)
OFF = {"gamma": (1, 1), "brightness": 0, "rotation_deg": 0, "translation_vox": 0, "bending_vox": 0}
MOVED = {"rotation_deg": 10, "translation_vox": 6, "bending_vox": 1.5}


@pytest.fixture(scope="module")
def brain():
    """An image 0…255 with background 0, and its label map."""
    noise = spline_noise(1, 1, 6, SHAPE, torch.Generator().manual_seed(0))
    axes = [torch.linspace(-1, 1, size) for size in SHAPE]
    inside = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij")) < 0.6
    image = torch.where(inside, (128 + 40 * noise).clamp(1, 255), 0)
    return image, torch.where(inside, (image > 128) + 1.0, 0)


def made(brain, seed=0, **factors):
    return pair_from_image(*brain, OneImage(**{**OFF, **factors}), [seed, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_the_true_field_makes_the_fixed_image_and_labels_of_the_moving_ones(brain, seed):
    pair = made(brain, seed, **MOVED)
    assert torch.equal(pair.moving, brain[0])
    assert torch.equal(pair.moving_labels, brain[1])
    torch.testing.assert_close(sample(pair.moving, pair.disp_vox, "zeros"), pair.fixed)
    assert torch.equal(sample_nearest(pair.moving_labels, pair.disp_vox, "zeros"), pair.fixed_labels)
    assert (pair.fixed - pair.moving).abs().mean() > 5
    assert (pair.fixed_labels != pair.moving_labels).double().mean() > 0.02


def test_beyond_the_grid_is_background():
    full = torch.full((1, 1, *SHAPE), 100.0)
    pair = pair_from_image(full, torch.ones_like(full), OneImage(**{**OFF, "translation_vox": 20}), [3])
    assert pair.disp_vox.abs().max() > 2
    for fixed in (pair.fixed, pair.fixed_labels):
        assert 0.1 < (fixed == 0).double().mean() < 0.9
    assert set(pair.fixed_labels.unique().tolist()) == {0, 1}


def test_the_same_numbers_give_the_same_pair_and_others_another(brain):
    first, again, other = (pair_from_image(*brain, OneImage(), [seed, 5]) for seed in (1, 1, 2))
    for name in ("fixed", "moving", "fixed_labels", "moving_labels", "disp_vox"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert (first.disp_vox - other.disp_vox).abs().mean() > 1


def test_nothing_drawn_changes_nothing(brain):
    pair = made(brain)
    assert torch.equal(pair.disp_vox, torch.zeros(1, 3, *SHAPE))
    torch.testing.assert_close(pair.fixed, pair.moving)
    assert torch.equal(pair.fixed_labels, pair.moving_labels)


def test_without_a_label_map_there_is_none(brain):
    pair = pair_from_image(brain[0], None, OneImage(**{**OFF, **MOVED}), [0, 0, 0])
    assert pair.fixed_labels is None
    assert pair.moving_labels is None
    assert torch.equal(pair.fixed, made(brain, **MOVED).fixed)


def test_rotation_and_translation_are_those_that_were_asked_for(brain):
    angles, lengths = [], []
    for seed in range(40):
        disp_vox = made(brain, seed, rotation_deg=10, translation_vox=30).disp_vox[0].double().numpy()
        columns = [np.diff(disp_vox, axis=axis + 1).reshape(3, -1) for axis in range(3)]
        for column in columns:  # an affine map: the same slopes everywhere
            np.testing.assert_allclose(column - column[:, :1], 0, atol=1e-4)
        matrix = np.eye(3) + np.stack([column.mean(axis=1) for column in columns], axis=1)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        angles.append(Rotation.from_matrix(matrix).as_euler("xyz", degrees=True))
        lengths.append(np.linalg.norm(disp_vox.mean(axis=(1, 2, 3))))  # rotated about the middle, which only shifts
    assert 9 < np.abs(angles).max() < 10.01
    assert np.min(angles) < -5 < 5 < np.max(angles)
    assert 25 < max(lengths) < 30.01
    assert min(lengths) < 5


def test_bending_moves_control_points_by_as_much_as_was_asked_for():
    shape = (22, 29, 36)  # the control points are voxels, 3, 4 and 5 apart
    disp_vox = torch.cat(
        [
            pair_from_image(torch.zeros(1, 1, *shape), None, OneImage(**{**OFF, "bending_vox": 1}), [s]).disp_vox
            for s in range(4)
        ]
    )
    length = disp_vox[..., ::3, ::4, ::5].square().sum(dim=1).sqrt()
    assert 0.95 < length.max() < 1.001
    assert length.mean() == pytest.approx(0.5, abs=0.03)
    assert disp_vox.mean(dim=(0, 2, 3, 4)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("size", "bending_vox"),
    [(48, 6 * 47 / 127), (36, 5 / 4)],
    ids=["as in the paper, no control point on a voxel", "a quarter of their distance, all on voxels"],
)
def test_what_does_not_fold(size, bending_vox):
    """Rotation and translation do not change volumes."""
    for seed in range(30):
        field = _folding(size, bending_vox, seed)
        assert min(float(determinant.min()) for determinant in jacobian_determinants(field)) > 0


def test_a_third_of_their_distance_hardly_folds_where_control_points_are_voxels():
    volumes = [float(non_diffeomorphic_volume(_folding(36, 5 / 3, seed)).sum()) for seed in range(30)]
    assert 0 < np.mean(volumes) < 0.02  # voxels; the spline has kinks there


def _folding(size, bending_vox, seed):
    factors = OneImage(bending_vox=bending_vox, translation_vox=30 * size / 128)
    return pair_from_image(torch.zeros(1, 1, size, size, size), None, factors, [seed]).disp_vox


def test_only_the_copy_changes_its_brightness(brain):
    darker, brighter = made(brain, gamma=(2, 2)), made(brain, gamma=(0.5, 0.5))
    for pair, exponent in ((darker, 2.0), (brighter, 0.5)):
        assert torch.equal(pair.moving, brain[0])
        torch.testing.assert_close(pair.fixed / 255, (brain[0] / 255) ** exponent)
    inside = brain[0] > 0
    shares = [float((made(brain, seed, brightness=0.2).fixed / brain[0])[inside].median()) for seed in range(30)]
    assert 0.79 < min(shares) < 0.85
    assert 1.15 < max(shares) < 1.21


@pytest.mark.parametrize("seed", range(4))
def test_intensities_and_background(brain, seed):
    pair = made(brain, seed, **MOVED, gamma=(0.5, 2), brightness=0.9)
    assert 0 <= pair.fixed.min() < pair.fixed.max() <= 255
    shown = sample(brain[0], pair.disp_vox, "zeros")
    assert torch.equal(pair.fixed == 0, shown == 0)
    assert 0.1 < (shown > 0).double().mean() < 0.9


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"gamma": (2, 1)}, r"gamma: found \[2.0, 1.0\]; expected the smaller number first"),
        ({"gamma": (0, 1)}, "greater than 0"),
        ({"brightness": 1}, "less than 1"),
        ({"rotation_deg": -1}, "greater than or equal to 0"),
        ({"bending": 1}, "Extra inputs"),
    ],
)
def test_impossible_factors(factors, message):
    with pytest.raises(ValidationError, match=message):
        OneImage(**factors)
