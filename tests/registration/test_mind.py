import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration.mind import mind


def image(seed=0, shape=(8, 9, 10)):
    torch.manual_seed(seed)
    return 255 * torch.rand(1, 1, *shape)


def test_against_the_definition_voxel_by_voxel():
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
    np.testing.assert_allclose(mind(volume)[0, :, 4, 4, 5].numpy(), expected, rtol=1e-4)


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
