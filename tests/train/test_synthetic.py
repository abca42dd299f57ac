"""Generated pairs: the true field carries one image to the other, and every factor does what it is called."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lumirkit.registration.exponential import exponential
from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.spline_noise import spline_noise
from lumirkit.registration.warp import compose, sample, sample_nearest
from lumirkit.train.synthetic import Shapes, Synthetic, generate_pair

SHAPE = (40, 48, 44)
OFF = {"blur_sigma_vox": (0, 0), "bias_log_std": (0, 0), "gamma_log_std": (0, 0), "noise_std": (0, 0)}
PLAIN = {**OFF, "label_spread": (0, 0), "dynamic_contrast": False, "background_probability": 0}


def made(seed=0, shape=SHAPE, **factors):
    return generate_pair(Synthetic(**factors), [seed, 0, 0], shape)


def interior(volume):
    """Without the rim, where the field leaves the grid."""
    return volume[..., 6:-6, 6:-6, 6:-6]


@pytest.mark.parametrize("shapes", list(Shapes))
@pytest.mark.parametrize("seed", range(3))
def test_the_true_field_carries_the_moving_labels_and_image_to_the_fixed_ones(shapes, seed):
    pair = made(seed, shapes=shapes, deformation_vox=(3, 3), **PLAIN)
    known = stays_inside(pair.disp_vox, margin=4)
    wrong = (pair.moving_labels != pair.fixed_labels)[known].double().mean()
    still_wrong = (sample_nearest(pair.moving_labels, pair.disp_vox) != pair.fixed_labels)[known].double().mean()
    assert still_wrong < wrong / 3  # what is left lies on borders, which nearest neighbours move by half a voxel
    before = (pair.moving - pair.fixed)[known].square().mean()
    after = (sample(pair.moving, pair.disp_vox) - pair.fixed)[known].square().mean()
    assert after < before / 3


def stays_inside(disp_vox, margin):
    """Where a voxel and what it is mapped to are so far from the rim: beyond it nothing is known."""
    axes = [torch.arange(float(size)) for size in disp_vox.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    last = torch.tensor(disp_vox.shape[2:]).view(1, 3, 1, 1, 1) - 1
    return torch.stack(
        [
            ((place >= margin) & (place <= last - margin)).all(dim=1, keepdim=True)
            for place in (position, position + disp_vox)
        ]
    ).all(dim=0)


def test_the_same_numbers_give_the_same_pair_and_others_another():
    first, again, other = made(1), made(1), made(2)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels", "disp_vox"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert (first.fixed_labels != other.fixed_labels).double().mean() > 0.5


def test_deformations_do_not_fold():
    pair = made(deformation_vox=(3, 3), deformation_scale_vox=(16, 16))
    inside = pair.disp_vox[..., 6:-6, 6:-6, 6:-6]  # at the rim the flow leaves the grid and is cut off
    assert non_diffeomorphic_volume(inside).sum() < 1e-4 * inside[0, 0].numel()
    assert 2 < pair.disp_vox.square().sum(dim=1).sqrt().mean() < 20


def test_no_deformation_no_field():
    pair = made(deformation_vox=(0, 0))
    assert torch.equal(pair.disp_vox, torch.zeros_like(pair.disp_vox))
    assert torch.equal(pair.fixed_labels, pair.moving_labels)


def test_dynamic_contrast_is_the_only_thing_that_tells_two_undeformed_images_apart():
    still = {**PLAIN, "deformation_vox": (0, 0)}
    same, different = made(**still), made(**{**still, "dynamic_contrast": True})
    assert torch.equal(same.fixed, same.moving)
    correlation = np.corrcoef(different.fixed.flatten(), different.moving.flatten())[0, 1]
    assert abs(correlation) < 0.8
    for image in (different.fixed, different.moving):  # one intensity a label
        for label in different.fixed_labels.unique():
            assert image[different.fixed_labels == label].std(correction=0) < 1e-3


def test_intensities_and_background():
    brain, bare = made(background_probability=1), made(background_probability=0)
    for image, labels in ((brain.fixed, brain.fixed_labels), (brain.moving, brain.moving_labels)):
        assert torch.equal(image == 0, labels == 0)
        assert image.max() == pytest.approx(255, abs=1)
    assert bare.fixed.min() > 0


@pytest.mark.parametrize(
    ("factor", "measure"),
    [
        ({"noise_std": (0.1, 0.1)}, lambda image, labels: _spread_in_labels(image, labels)),
        ({"label_spread": (0.1, 0.1)}, lambda image, labels: _spread_in_labels(image, labels)),
        (
            {"bias_log_std": (0.4, 0.4), "bias_scale_vox": (16, 16)},
            lambda image, labels: _spread_in_labels(image, labels),
        ),
        ({"blur_sigma_vox": (2, 2)}, lambda image, _: -_steepness(image)),
        ({"gamma_log_std": (1, 1)}, lambda image, _: abs(float(image.median()) - PLAIN_MEDIAN)),
    ],
    ids=["noise", "spread", "bias", "blur", "gamma"],
)
def test_a_factor_does_what_it_is_called(factor, measure):
    plain, changed = made(**PLAIN), made(**{**PLAIN, **factor})
    assert torch.equal(plain.fixed_labels, changed.fixed_labels)
    assert measure(changed.fixed, changed.fixed_labels) > measure(plain.fixed, plain.fixed_labels) + 1


PLAIN_MEDIAN = float(made(**PLAIN).fixed.median())


def _spread_in_labels(image, labels):
    return float(np.mean([float(image[labels == label].std(correction=0)) for label in labels.unique()]))


def _steepness(image):
    return float(image.diff(dim=2).abs().mean())


def test_as_many_labels_as_asked_for():
    assert made(labels=5).fixed_labels.unique().tolist() == [0, 1, 2, 3, 4]
    primitives = made(labels=5, shapes="primitives", shape_scale_vox=(6, 10))
    assert set(primitives.fixed_labels.unique().tolist()) <= {0, 1, 2, 3, 4}
    assert (primitives.fixed_labels > 0).double().mean() > 0.02


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"noise_std": (0.2, 0.1)}, r"noise_std: found \[0.2, 0.1\]; expected the smaller number first"),
        ({"labels": 1}, "greater than or equal to 2"),
        ({"shapes": "cubes"}, "'noise', 'primitives' or 'mixed'"),
        ({"background_probability": 2}, "less than or equal to 1"),
        ({"deformation_scale_vox": (0, 3)}, "greater than 0"),
        ({"blurr": (0, 1)}, "Extra inputs"),
    ],
)
def test_impossible_factors(factors, message):
    with pytest.raises(ValidationError, match=message):
        Synthetic(**factors)


def test_smooth_noise_has_unit_variance_and_its_scale():
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (spline_noise(8, 1, spacing, (48, 48, 48), generator) for spacing in (4, 12))
    assert interior(fine).std() == pytest.approx(1, abs=0.1)  # at the borders, which repeat, it is larger
    assert interior(coarse).std() == pytest.approx(1, abs=0.25)
    slope_of = [float(volume.diff(dim=2).square().mean().sqrt()) for volume in (fine, coarse)]
    assert slope_of[0] / slope_of[1] == pytest.approx(3, rel=0.25)


def test_the_flow_of_a_constant_velocity_is_a_translation():
    velocity = torch.tensor([1.5, -2.0, 0.25]).view(1, 3, 1, 1, 1).expand(1, 3, 12, 12, 12).contiguous()
    assert torch.allclose(exponential(velocity), velocity, atol=1e-6)


def test_the_flow_of_a_linear_velocity_is_the_matrix_exponential():
    """v = a (x - c) moves x to c + exp(a) (x - c)."""
    x = torch.arange(33.0, dtype=torch.float64).view(1, 1, 33, 1, 1).expand(1, 1, 33, 9, 9) - 16
    velocity = torch.cat([-0.3 * x, torch.zeros_like(x), torch.zeros_like(x)], dim=1)
    expected = (np.exp(-0.3) - 1) * x
    assert torch.allclose(exponential(velocity, squarings=10)[:, :1], expected, atol=5e-3)


def test_the_flow_back_undoes_the_flow():
    velocity = 2 * spline_noise(1, 3, 10, SHAPE, torch.Generator().manual_seed(3))
    there_and_back = compose(exponential(-velocity), exponential(velocity))
    assert interior(there_and_back).abs().mean() < 0.03  # what is left is linear interpolation
    assert interior(there_and_back).abs().max() < 0.3
