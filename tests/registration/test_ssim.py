"""SSIM: scikit-image's, closed forms, and gradients that are numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.ssim import local_ssim

C1, C2 = 0.01**2, 0.03**2  # for a range of 1


def images(seed=0, shape=(17, 15, 16), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, 1, *shape, generator=generator, dtype=dtype).unbind()


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_against_scikit_image(data_range):
    a, b = (data_range * image for image in images())
    b = 0.7 * a + 0.3 * b
    theirs, per_voxel = structural_similarity(
        a[0, 0].numpy(),
        b[0, 0].numpy(),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    whole = torch.zeros(a.shape, dtype=torch.bool)
    whole[..., 5:-5, 5:-5, 5:-5] = True  # its mean is over the windows that lie in the volume
    assert 0.1 < theirs < 0.99
    assert float(local_ssim(a, b, data_range, mask=whole)) == pytest.approx(theirs, rel=1e-9)
    assert theirs == pytest.approx(per_voxel[5:-5, 5:-5, 5:-5].mean())


@given(st.integers(0, 99), st.sampled_from([1, 3, 11]))
def test_one_for_equal_images_and_never_more(seed, window):
    a, b = images(seed, (6, 7, 5))
    assert float(local_ssim(a, a, 1, window)) == pytest.approx(1)
    found = float(local_ssim(a, b, 1, window))
    assert -1 <= found <= 1
    assert float(local_ssim(b, a, 1, window)) == pytest.approx(found)


@given(st.floats(0, 1), st.floats(0, 1))
def test_of_constant_images_brightness_alone_is_left(p, q):
    a, b = (torch.full((1, 1, 5, 6, 7), value, dtype=torch.float64) for value in (p, q))
    assert float(local_ssim(a, b, 1)) == pytest.approx((2 * p * q + C1) / (p * p + q * q + C1))


def test_of_a_negative_only_structure_is_left():
    """Windows of one voxel have no structure; larger ones of exchanged contrast have the opposite one."""
    a, _ = images()
    a = a - 0.5
    assert float(local_ssim(a, -a, 1, 1)) == pytest.approx(float(((C1 - 2 * a * a) / (C1 + 2 * a * a)).mean()))
    assert float(local_ssim(1 + a, 1 - a, 1)) < -0.5


def test_the_unit_of_the_intensities_does_not_matter():
    a, b = images()
    assert float(local_ssim(40 * a, 40 * b, 40)) == pytest.approx(float(local_ssim(a, b, 1)))


def test_only_the_mask_counts():
    a, b = images(shape=(30, 8, 8))
    b[..., :15, :, :] = a[..., :15, :, :]
    equal = torch.zeros(a.shape, dtype=torch.bool)
    equal[..., :10, :, :] = True  # no window from there reaches the other half
    assert float(local_ssim(a, b, 1, mask=equal)) == pytest.approx(1)
    parts = [float(local_ssim(a, b, 1, mask=mask)) for mask in (equal, ~equal)]
    assert float(local_ssim(a, b, 1)) == pytest.approx((parts[0] + 2 * parts[1]) / 3)
    assert parts[1] < 0.5


def test_a_mask_for_all_channels_and_images():
    a, b = (torch.cat([image, image.flip(2)], dim=1).expand(3, -1, -1, -1, -1) for image in images(shape=(6, 7, 5)))
    mask = torch.zeros(1, 1, 6, 7, 5, dtype=torch.bool)
    mask[..., 2:4, :, :] = True
    spread = mask.expand(a.shape)
    assert float(local_ssim(a, b, 1, mask=mask)) == pytest.approx(float(local_ssim(a, b, 1, mask=spread)))


def test_gradcheck():
    a, b = (image.requires_grad_() for image in images(shape=(4, 5, 3)))
    mask = torch.rand(a.shape) > 0.3
    assert torch.autograd.gradcheck(lambda a, b: local_ssim(a, b, 1, 3, mask), (a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_gradients_are_numbers_where_nothing_varies(value, dtype):
    a = torch.full((1, 1, 9, 8, 7), value, dtype=dtype)
    a[..., 5:, :, :] += 0.5
    b = torch.full_like(a, value).requires_grad_()
    local_ssim(a, b, 1).backward()
    assert b.grad.isfinite().all()
    assert b.grad.abs().max() > 0


def test_following_the_gradient_makes_images_alike():
    a, b = images(shape=(8, 8, 8), dtype=torch.float32)
    b.requires_grad_()
    before = float(local_ssim(a, b.detach(), 1))
    optimizer = torch.optim.Adam([b], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (1 - local_ssim(a, b, 1)).backward()
        optimizer.step()
    assert float(local_ssim(a, b.detach(), 1)) > max(0.95, before + 0.3)


@settings(max_examples=20)
@given(st.tuples(*[st.integers(1, 14)] * 3))
def test_kernels_equal_plain_torch(shape):
    a, b = images(1, shape)
    with plain_torch():
        expected = local_ssim(a, b, 1)
    torch.testing.assert_close(local_ssim(a, b, 1), expected, rtol=1e-9, atol=1e-12)


def test_float32_is_accurate_for_bright_images():
    a, b = (200 + 55 * image for image in images())
    assert float(local_ssim(a.float(), b.float(), 255)) == pytest.approx(float(local_ssim(a, b, 255)), abs=1e-4)


@pytest.mark.wrong_shapes
def test_wrong_arguments_are_named():
    a, b = images()
    with pytest.raises(ValueError, match="window has an edge of 4 voxels; expected an odd number"):
        local_ssim(a, b, 1, 4)
    with pytest.raises(ValueError, match=r"shapes \(1, 1, 17, 15, 16\) and \(1, 1, 17, 15, 15\)"):
        local_ssim(a, b[..., :-1], 1)
    for bad in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"a range of {bad}; expected a number above 0"):
            local_ssim(a, b, bad)
    with pytest.raises(ValueError, match="the mask is empty"):
        local_ssim(a, b, 1, mask=torch.zeros(a.shape, dtype=torch.bool))
