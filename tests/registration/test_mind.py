import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.mind import mind


def image(seed=0, shape=(8, 9, 10)):
    torch.manual_seed(seed)
    return 255 * torch.rand(1, 1, *shape)


def plainly(*arguments):
    with plain_torch():
        return mind(*arguments)


@pytest.mark.parametrize("transform", [mind, plainly])
def test_against_the_definition_voxel_by_voxel(transform):
    volume = image()
    padded = np.pad(volume[0, 0].double().numpy(), 3, mode="edge")
    weights = np.exp(-0.5 * (np.arange(-1, 2) / 0.5) ** 2)
    weights /= weights.sum()
    offsets = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
    at = np.array([4, 4, 5])
    distances = []
    for offset in offsets:
        distance = 0.0
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    p = at + 3 + np.array([i, j, k]) - 1
                    difference = padded[tuple(p)] - padded[tuple(p + offset)]
                    distance += weights[i] * weights[j] * weights[k] * difference**2
        distances.append(distance)
    expected = np.exp(-np.array(distances) / np.mean(distances))
    np.testing.assert_allclose(transform(volume)[0, :, 4, 4, 5].numpy(), expected, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(scale=st.sampled_from([-3.0, -1.0, 0.01, 0.5, 7.0]), offset=st.floats(-100, 100), seed=st.integers(0, 9))
def test_invariant_to_affine_intensity_changes_and_sign(scale, offset, seed):
    volume = image(seed).double()
    torch.testing.assert_close(mind(scale * volume + offset), mind(volume), atol=1e-6, rtol=1e-6)


def test_regions_without_contrast_give_one_everywhere():
    volume = image(shape=(20, 8, 8))
    volume[:, :, :10] = 40
    descriptor = mind(volume)
    torch.testing.assert_close(descriptor[:, :, :8], torch.ones(1, 6, 8, 8, 8))
    torch.testing.assert_close(mind(torch.full((1, 1, 5, 5, 5), 3.0)), torch.ones(1, 6, 5, 5, 5))


def test_values_lie_in_the_unit_interval():
    descriptor = mind(image())
    assert float(descriptor.min()) >= 0
    assert float(descriptor.max()) <= 1


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    batch=st.integers(1, 3),
    sigma_vox=st.sampled_from([0.3, 0.5, 2.0]),
    background=st.integers(0, 6),
)
def test_kernel_equals_plain_torch(shape, batch, sigma_vox, background):
    """Also on grids without neighbours along an axis, and where the variance is below its floor."""
    torch.manual_seed(sum(shape))
    volume = 255 * torch.rand(batch, 1, *shape, dtype=torch.float64)
    volume[:, :, :background] = 3
    expected = plainly(volume, sigma_vox)
    torch.testing.assert_close(mind(volume, sigma_vox), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mind(volume.float(), sigma_vox).double(), expected, rtol=1e-4, atol=1e-5)


def test_float32_is_as_accurate_as_plain_torch():
    volume = image(shape=(20, 21, 22))
    exact = plainly(volume.double())
    assert (mind(volume) - exact).norm() <= 1.5 * (plainly(volume) - exact).norm()


def test_any_strides(as_view):
    volume = as_view(torch.cat([image(seed) for seed in (0, 1)]))
    assert torch.equal(mind(volume), mind(volume.contiguous()))


def test_channels_lie_side_by_side_as_convolutions_want_them():
    assert mind(image()).is_contiguous(memory_format=torch.channels_last_3d)


def test_the_same_bytes_on_any_number_of_threads(on_threads):
    assert torch.equal(*(on_threads(n, mind, image(shape=(17, 12, 30))) for n in (1, 2)))


def test_what_is_no_number_shows_in_its_image_only():
    volume = torch.cat([image(seed) for seed in (0, 1)])
    volume[0, 0, 3, 4, 5] = float("nan")
    descriptor = mind(volume)
    assert descriptor[0].isnan().all()
    assert torch.equal(descriptor[1:], mind(volume[1:]))


def test_an_image_that_wants_a_gradient_gets_it():
    volume = image(shape=(4, 3, 5)).double().requires_grad_()
    assert torch.autograd.gradcheck(mind, (volume / 255,), atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(mind(volume), plainly(volume))


@pytest.mark.wrong_shapes
def test_more_than_one_channel_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 4, 4, 4\); expected one channel"):
        mind(torch.zeros(1, 2, 4, 4, 4))
