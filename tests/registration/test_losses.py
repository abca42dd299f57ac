import pytest
import torch

from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.losses import diffusion_loss, masked_ncc_loss, ndv_loss


def images(seed=0, shape=(7, 8, 9)):
    torch.manual_seed(seed)
    return torch.rand(1, 1, *shape, dtype=torch.float64), torch.rand(1, 1, *shape, dtype=torch.float64)


def test_only_what_both_show_counts():
    """Whatever lies outside the common brain changes nothing."""
    fixed, moving = images()
    fixed[:, :, :3] = 0
    zero = torch.zeros(1, 3, 7, 8, 9, dtype=torch.float64)
    changed = moving.clone()
    changed[:, :, :3] += 7
    assert float(masked_ncc_loss(fixed, moving, zero, 3)) == float(masked_ncc_loss(fixed, changed, zero, 3))
    assert float(masked_ncc_loss(fixed, moving, zero, 3)) != float(masked_ncc_loss(fixed, 1 - moving, zero, 3))


def test_the_right_translation_has_the_lowest_loss():
    torch.manual_seed(0)
    fixed = torch.rand(1, 1, 12, 12, 12)
    moving = fixed.roll(1, dims=2)  # moving(x + 1) = fixed(x)

    def loss(shift):
        disp_vox = torch.tensor([shift, 0.0, 0.0]).view(1, 3, 1, 1, 1).expand(1, 3, 12, 12, 12)
        return float(masked_ncc_loss(fixed, moving, disp_vox, 5))

    assert loss(1.0) < loss(0.0)
    assert loss(1.0) < loss(-1.0)


def test_diffusion_of_a_linear_field():
    """u_x = 0.3 x: one of nine derivatives is 0.3 everywhere."""
    disp_vox = torch.zeros(1, 3, 6, 7, 8)
    disp_vox[:, 0] = 0.3 * torch.arange(6).view(1, -1, 1, 1)
    assert float(diffusion_loss(disp_vox)) == pytest.approx(0.3**2 / 9)


def test_ndv_of_a_mirrored_grid():
    """x -> -x turns every interior cell inside out: one voxel of volume for each; the batch is averaged."""
    mirrored = torch.zeros(1, 3, 6, 7, 8)
    mirrored[:, 0] = -2 * torch.arange(6).view(1, -1, 1, 1)
    inside = 4 * 5 * 6
    assert float(ndv_loss(mirrored)) == pytest.approx(inside)
    assert float(ndv_loss(torch.cat([mirrored, torch.zeros_like(mirrored)]))) == pytest.approx(inside / 2)


def test_gradients():
    torch.manual_seed(0)
    fixed, moving = images(shape=(5, 5, 5))
    disp_vox = (0.3 * torch.randn(1, 3, 5, 5, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: masked_ncc_loss(fixed, moving, u, 3), (disp_vox,), atol=1e-6)
    assert torch.autograd.gradcheck(diffusion_loss, (disp_vox,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 4, 2, 3, 1)])
def test_diffusion_by_kernels_is_that_of_plain_torch(dtype, order):
    """The value and the gradient, whatever the order in memory."""
    torch.manual_seed(0)
    made = torch.randn(*[(2, 3, 9, 8, 7)[axis] for axis in order], dtype=dtype)
    disp_vox = made.permute(*[order.index(axis) for axis in range(5)]).requires_grad_()
    loss = diffusion_loss(disp_vox)
    (gradient,) = torch.autograd.grad(loss, disp_vox)
    with plain_torch():
        expected = diffusion_loss(disp_vox)
        (expected_gradient,) = torch.autograd.grad(expected, disp_vox)
    assert loss.dtype == dtype
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)
