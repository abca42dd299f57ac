"""Local NCC: its definition, and the compiled kernel against plain torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.ncc import local_ncc

SHAPES = st.tuples(*[st.integers(1, 14)] * 3)


def images(seed=0, shape=(7, 8, 9), batch=1, channels=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, channels, *shape, generator=generator, dtype=dtype).unbind()


def with_gradients(a, b, window):
    a, b = (image.detach().clone(memory_format=torch.preserve_format).requires_grad_() for image in (a, b))
    value = local_ncc(a, b, window)
    return value.detach(), *torch.autograd.grad(value, (a, b))


def plainly(function, *arguments):
    with plain_torch():
        return function(*arguments)


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
def test_against_the_definition(window):
    a, b = images()
    expected = pytest.approx(brute_force_ncc(a, b, window), rel=1e-9)
    assert float(local_ncc(a, b, window)) == expected
    assert float(plainly(local_ncc, a, b, window)) == expected


def test_one_for_linearly_related_images():
    a, _ = images(shape=(12, 12, 12))
    inside = local_ncc(a, 0.5 - 2 * a, 5)
    assert float(inside) > 0.9  # windows over the border see the step to the padding
    assert float(local_ncc(a, a, 5)) == pytest.approx(1, abs=1e-4)


@settings(max_examples=60)
@given(shape=SHAPES, batch=st.integers(1, 2), channels=st.integers(1, 3), window=st.sampled_from([1, 3, 5, 11]))
def test_kernel_equals_plain_torch(shape, batch, channels, window):
    pair = images(sum(shape), shape, batch, channels)
    for found, expected in zip(with_gradients(*pair, window), plainly(with_gradients, *pair, window), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def masked_float32(shape=(25, 30, 27)):
    """Smooth images on a background of zeros, as brains are."""
    pair = torch.stack(images(3, tuple(-(-size // 4) for size in shape), dtype=torch.float32))[:, 0]
    pair = torch.nn.functional.interpolate(pair, size=shape, mode="trilinear")
    pair[:, :, :8] = 0
    return pair[:1], pair[1:]


def test_float32_is_at_least_as_accurate_as_plain_torch():
    pair = masked_float32()
    exact = plainly(with_gradients, *(image.double() for image in pair), 11)
    kernel, plain = with_gradients(*pair, 11), plainly(with_gradients, *pair, 11)
    for found, reference, true in zip(kernel, plain, exact, strict=True):
        error, allowed = ((result - true).norm() / true.norm() for result in (found, reference))
        assert error <= max(allowed, 1e-7)
        torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


def test_gradcheck():
    a, b = (image.requires_grad_() for image in images(shape=(4, 5, 3), batch=2))
    assert torch.autograd.gradcheck(lambda a, b: local_ncc(a, b, 3), (a, b))


def test_only_the_gradient_that_is_asked_for():
    a, b = images()
    _, to_a, to_b = with_gradients(a, b, 3)
    leaf = b.clone().requires_grad_()
    (alone,) = torch.autograd.grad(local_ncc(a, leaf, 3), leaf)
    assert torch.equal(alone, to_b)
    leaf = a.clone().requires_grad_()
    (alone,) = torch.autograd.grad(local_ncc(leaf, b, 3), leaf)
    assert torch.equal(alone, to_a)


def test_any_strides(as_view):
    a, b = (as_view(image) for image in images(shape=(8, 6, 7), batch=2, channels=2))
    for found, expected in zip(with_gradients(a, b, 5), with_gradients(a.contiguous(), b.contiguous(), 5), strict=True):
        assert torch.equal(found, expected)


def test_the_same_bytes_on_any_number_of_threads(on_threads):
    pair = masked_float32()
    for one, two in zip(*(on_threads(n, with_gradients, *pair, 5) for n in (1, 2)), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_shows(bad):
    a, b = images()
    a[0, 0, 3, 4, 5] = bad
    value, to_a, to_b = with_gradients(a, b, 3)
    assert value.isnan()
    assert to_a[0, 0, 3, 4, 5].isnan()
    assert to_b[0, 0, 3, 4, 5].isnan()


def test_other_dtypes_take_plain_torch():
    a, b = images(dtype=torch.bfloat16)
    assert local_ncc(a, b, 3).dtype is torch.bfloat16


@pytest.mark.wrong_shapes
def test_wrong_arguments_are_named():
    a, b = images()
    with pytest.raises(ValueError, match="window has an edge of 4 voxels; expected an odd number"):
        local_ncc(a, b, 4)
    with pytest.raises(ValueError, match=r"shapes \(1, 1, 7, 8, 9\) and \(1, 1, 7, 8, 8\)"):
        local_ncc(a, b[..., :-1], 3)
