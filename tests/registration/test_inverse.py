import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.inverse import invert, invert_bent
from lumirkit.registration.jacobian import jacobian_determinants
from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.warp import compose


def random_field(shape, stride, scale=1.0, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    uniform = 2 * torch.rand(1, 3, *coarse_shape(shape, stride), dtype=dtype) - 1
    return spline_displacement(uniform * scale * invertibility_bound(stride), stride, shape)


def test_inverse_of_a_translation():
    disp_vox = torch.tensor([0.3, -0.7, 0.25]).view(1, 3, 1, 1, 1).expand(1, 3, 6, 7, 8)
    torch.testing.assert_close(invert(disp_vox), -disp_vox)


@settings(max_examples=25, deadline=None)
@given(stride=st.sampled_from([1, 2, 4, 8]), scale=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_residual_is_at_rounding_level(stride, scale, seed):
    disp_vox = random_field((16, 14, 12), stride, scale, seed)
    assert compose(disp_vox, invert(disp_vox)).abs().max() < 1e-5


def test_residual_at_the_edge_of_the_bound():
    """Control points of full size and random sign, where the plain fixed point would need hundreds of steps."""
    for stride in (1, 2, 4):
        torch.manual_seed(stride)
        shape = (16, 16, 16)
        signs = torch.randint(0, 2, (2, 3, *coarse_shape(shape, stride))) * 2.0 - 1
        disp_vox = spline_displacement(signs * invertibility_bound(stride), stride, shape)
        assert compose(disp_vox, invert(disp_vox)).abs().max() < 1e-5


def test_gradient_is_exact():
    disp_vox = random_field((6, 7, 5), 4, 0.5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(invert, (disp_vox,))


def test_a_folding_field_gives_finite_numbers():
    torch.manual_seed(0)
    assert torch.isfinite(invert(5 * torch.randn(1, 3, 8, 8, 8))).all()


def test_a_grid_without_cells_is_refused():
    with pytest.raises(ValueError, match="at least 2 voxels"):
        invert(torch.zeros(1, 3, 1, 4, 4))


def sheared_field(size, amplitude_vox, wave_number):
    """Two shears along sine waves, one after the other: invertible, but far from a contraction."""
    at = torch.stack(torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 3, indexing="ij"))
    x, y, z = at
    fade = torch.sin(torch.pi * at / (size - 1)).prod(dim=0)
    x = x + amplitude_vox * fade * torch.sin(wave_number * y)
    y = y + amplitude_vox * fade * torch.sin(wave_number * x)
    return (torch.stack([x, y, z]) - at)[None]


def test_a_strongly_bent_field_is_inverted_wherever_it_does_not_fold():
    field = sheared_field(40, 4, 0.35)
    assert min(float(determinant.min()) for determinant in jacobian_determinants(field)) > 0.1
    assert compose(field, invert(field)).abs().max() > 1  # what the damped steps are for
    assert compose(field, invert_bent(field)).abs().max() < 1e-9


def test_where_a_field_folds_the_better_of_both_tries_is_left():
    field = sheared_field(32, 6, 0.4)
    left = [compose(field, inverse(field)).abs().amax(dim=1) for inverse in (invert, invert_bent)]
    assert left[1].isfinite().all()
    assert (left[1] <= left[0] + 1e-12).all()


def test_a_number_that_is_none_leaves_no_trace_elsewhere():
    """In plain torch too, where it must not become an index."""
    field = 0.3 * torch.rand(1, 3, 6, 7, 8, dtype=torch.float64)
    with plain_torch():
        expected = invert(field)
        field[0, :, 0, 0, 0] = torch.nan
        found = invert(field)
    assert found[..., 0, 0, 0].isnan().all()
    torch.testing.assert_close(found[..., 3:, 3:, 3:], expected[..., 3:, 3:, 3:])
