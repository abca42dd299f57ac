import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from lumirkit.registration.bspline import cubic_bspline, invertibility_bound, spline_displacement
from lumirkit.registration.jacobian import jacobian_determinants
from lumirkit.registration.resolution import coarse_shape

# 1 / K_s of the published network, for strides 1, 2, 4, ...
PUBLISHED = {1: 0.36, 2: 0.3854469526, 4: 0.3980311405, 8: 0.4007250761, 16: 0.4017532975, 32: 0.4025363302}


@pytest.mark.parametrize("stride", PUBLISHED)
def test_bound_is_the_published_one(stride):
    assert invertibility_bound(stride) == pytest.approx(0.99 * PUBLISHED[stride], abs=1e-9)


def test_basis_agrees_with_scipy():
    t = np.linspace(-2.5, 2.5, 101)
    expected = np.nan_to_num(BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)(t))
    np.testing.assert_allclose(cubic_bspline(torch.from_numpy(t)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("stride", "shape"), [(1, (5, 6, 7)), (4, (8, 12, 16)), (4, (9, 10, 11))])
def test_constant_control_points_give_a_translation(stride, shape):
    control_points = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *coarse_shape(shape, stride))
    disp_vox = spline_displacement(control_points, stride, shape)
    expected = stride * torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(disp_vox, expected.expand(1, 3, *shape))


def test_spline_reproduces_a_linear_field_inside():
    stride, shape = 4, (32, 32, 32)
    coarse = torch.arange(8, dtype=torch.float64).view(1, 1, 8, 1, 1).expand(1, 3, 8, 8, 8)
    disp_vox = spline_displacement(coarse, stride, shape)
    expected = stride * ((torch.arange(32, dtype=torch.float64) + 0.5) / stride - 0.5)
    torch.testing.assert_close(disp_vox[0, 0, 8:-8, 3, 5], expected[8:-8])


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_no_fold_at_the_edge_of_the_bound(stride):
    """250 draws a stride, 1000 in all, each component at plus or minus the bound."""
    torch.manual_seed(stride)
    shape = (16, 16, 16)
    for _ in range(10):
        signs = torch.randint(0, 2, (25, 3, *coarse_shape(shape, stride))) * 2.0 - 1
        disp_vox = spline_displacement(signs * invertibility_bound(stride), stride, shape)
        assert min(float(determinant.min()) for determinant in jacobian_determinants(disp_vox)) > 0


def test_the_worst_control_points_stay_just_invertible_and_twice_the_bound_folds():
    """Signs that make the first component's slopes add up: the bound is tight, not merely safe."""
    stride, shape = 1, (9, 9, 9)
    basis = torch.eye(729).view(729, 1, 9, 9, 9).expand(-1, 3, -1, -1, -1)
    fields = spline_displacement(basis, stride, shape)[:, 0]
    at = (4, 4, 4)
    slopes = sum(fields.diff(dim=axis)[:, at[0], at[1], at[2]] for axis in (1, 2, 3))
    worst = -slopes.sign().view(1, 1, 9, 9, 9).expand(1, 3, 9, 9, 9)

    def smallest(scale):
        disp_vox = spline_displacement(worst * scale * invertibility_bound(stride), stride, shape)
        return min(float(determinant.min()) for determinant in jacobian_determinants(disp_vox))

    assert 0 < smallest(1.0) < 0.02
    assert smallest(1.05) < 0
