import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.inverse import invert
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
