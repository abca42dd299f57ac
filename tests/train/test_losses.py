import numpy as np
import pytest
import torch

from train.losses import diffusion_loss, local_ncc, masked_ncc_loss, ndv_loss


def images(seed=0, shape=(7, 8, 9)):
    torch.manual_seed(seed)
    return torch.rand(1, 1, *shape, dtype=torch.float64), torch.rand(1, 1, *shape, dtype=torch.float64)


def brute_force_ncc(a, b, window):
    """The definition, window by window; zeros beyond the volume."""
    radius = window // 2
    a, b = (np.pad(volume[0, 0].numpy(), radius) for volume in (a, b))
    values = []
    for i, j, k in np.ndindex(*(size - 2 * radius for size in a.shape)):
        block = np.s_[i : i + window, j : j + window, k : k + window]
        p, q = a[block] - a[block].mean(), b[block] - b[block].mean()
        values.append((p * q).sum() ** 2 / ((p * p).sum() * (q * q).sum() + 1e-5))
    return np.mean(values)


@pytest.mark.parametrize("window", [3, 5])
def test_local_ncc_against_its_definition(window):
    a, b = images()
    assert float(local_ncc(a, b, window)) == pytest.approx(brute_force_ncc(a, b, window), rel=1e-9)


def test_local_ncc_is_one_for_linearly_related_images():
    a, _ = images(shape=(12, 12, 12))
    inside = local_ncc(a, 0.5 - 2 * a, 5)
    assert float(inside) > 0.9  # windows over the border see the step to the padding
    assert float(local_ncc(a, a, 5)) == pytest.approx(1, abs=1e-4)


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
