"""The compiled kernels against the plain torch versions: values, gradients, any shape and layout, any threads."""

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.bspline import spline_displacement
from lumirkit.registration.group_norm import group_norm_relu
from lumirkit.registration.inverse import invert
from lumirkit.registration.kernels.dispatch import kernels_serve, plain_torch
from lumirkit.registration.resolution import coarse_shape, displacement_at_block_centres, refine_displacement
from lumirkit.registration.smoothing import gaussian_smooth
from lumirkit.registration.warp import compose, sample

shapes = st.tuples(st.integers(1, 13), st.integers(1, 9), st.integers(1, 17))
cases = settings(max_examples=25, deadline=None)
layouts = st.sampled_from(["contiguous", "sliced", "transposed", "expanded"])


def laid_out(tensor, layout):
    """The same numbers in another memory order."""
    if layout == "sliced":
        return torch.stack([tensor, tensor], dim=-1)[..., 0]
    if layout == "transposed":
        return tensor.transpose(2, 4).contiguous().transpose(2, 4)
    if layout == "expanded":
        return tensor[:1].expand(tensor.shape)
    return tensor


def random_field(shape, batch=2, scale=2.0, dtype=torch.float64):
    return scale * torch.randn(batch, 3, *shape, dtype=dtype)


def channels_last(volume):
    return volume.to(memory_format=torch.channels_last_3d)


def assert_same_as_plain(function, *inputs, tolerance=1e-10):
    """Values and gradients of the compiled function equal those of its plain version."""
    results = []
    for plain in (False, True):
        leaves = [tensor.detach().clone(memory_format=torch.preserve_format).requires_grad_() for tensor in inputs]
        if plain:
            with plain_torch():
                out = function(*leaves)
                assert not kernels_serve(out)
        else:
            out = function(*leaves)
            assert kernels_serve(out) or out.dtype == torch.bfloat16
        torch.manual_seed(1)
        upstream = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, upstream)])
    for kernel, oracle in zip(*results, strict=True):
        assert kernel.shape == oracle.shape
        torch.testing.assert_close(kernel, oracle, atol=tolerance * max(1.0, float(oracle.abs().max())), rtol=tolerance)


@cases
@given(shapes, st.integers(1, 4), st.sampled_from(["border", "zeros"]), layouts, st.integers(0, 99))
def test_sampling(shape, channels, outside, layout, seed):
    torch.manual_seed(seed)
    volume = laid_out(torch.randn(2, channels, *shape, dtype=torch.float64), layout)
    field = laid_out(random_field(shape), layout)
    assert_same_as_plain(lambda volume, field: sample(volume, field, outside), volume, field)


@cases
@given(shapes, st.integers(2, 19), st.integers(0, 99))
def test_sampling_of_features(shape, channels, seed):
    torch.manual_seed(seed)
    volume = channels_last(torch.randn(2, channels, *shape, dtype=torch.float64))
    sampled = sample(volume, random_field(shape))
    assert sampled.is_contiguous(memory_format=torch.channels_last_3d)
    assert_same_as_plain(sample, volume, random_field(shape))


def test_sampling_of_bfloat16_features_rounds_once():
    torch.manual_seed(0)
    volume = channels_last(torch.randn(2, 12, 6, 7, 8).bfloat16())
    field = random_field((6, 7, 8), dtype=torch.float32)
    with plain_torch():
        oracle = sample(volume, field)
    difference = (sample(volume, field).float() - oracle.float()).abs()
    assert sample(volume, field).dtype == torch.bfloat16
    assert (
        difference <= 2**-7 * oracle.float().abs() + 1e-6
    ).all()  # one unit in the last place: sums in another order
    assert (difference == 0).float().mean() > 0.95
    assert_same_as_plain(sample, volume, field, tolerance=2e-2)


@cases
@given(shapes, layouts, st.integers(0, 99))
def test_composition(shape, layout, seed):
    torch.manual_seed(seed)
    assert_same_as_plain(compose, laid_out(random_field(shape), layout), laid_out(random_field(shape), layout))


@cases
@given(st.tuples(*[st.integers(2, 11)] * 3), st.sampled_from([1, 2, 4]), layouts, st.integers(0, 99))
def test_inversion(shape, stride, layout, seed):
    torch.manual_seed(seed)
    control_points = 0.3 * (2 * torch.rand(2, 3, *coarse_shape(shape, stride), dtype=torch.float64) - 1)
    field = laid_out(spline_displacement(control_points, stride, shape), layout)
    assert compose(field, invert(field)).abs().max() < 1e-9
    assert_same_as_plain(invert, field, tolerance=1e-8)


@cases
@given(st.tuples(*[st.integers(1, 19)] * 3), st.sampled_from([1, 2, 3, 8]), st.integers(0, 99))
def test_separable_operators(shape, stride, seed):
    torch.manual_seed(seed)
    coarse = random_field(coarse_shape(shape, stride))
    assert_same_as_plain(lambda points: spline_displacement(points, stride, shape), coarse)
    assert_same_as_plain(lambda field: refine_displacement(field, stride, shape), coarse)
    assert_same_as_plain(lambda field: displacement_at_block_centres(field, stride), random_field(shape))
    assert_same_as_plain(lambda volume: gaussian_smooth(volume, 1.3, 2), laid_out(random_field(shape), "transposed"))


@cases
@given(shapes, st.sampled_from([(4, 4), (12, 4), (6, 2), (5, 1)]), st.integers(0, 99))
def test_group_norm_with_relu(shape, channels_groups, seed):
    channels, groups = channels_groups
    torch.manual_seed(seed)
    volume = channels_last(3 + 2 * torch.randn(2, channels, *shape, dtype=torch.float64))
    weight, bias = torch.randn(2, channels, dtype=torch.float64)

    def function(volume, weight, bias):
        return group_norm_relu(volume, groups, weight, bias, 1e-5)

    with plain_torch():
        expected = function(volume, weight, bias)
    assert_same_as_plain(function, volume, weight, bias, tolerance=1e-8)
    with torch.no_grad():  # in place
        torch.testing.assert_close(function(volume, weight, bias), expected)


def test_group_norm_of_bfloat16_keeps_its_statistics_in_float():
    torch.manual_seed(0)
    volume = channels_last((100 + torch.randn(1, 4, 8, 9, 10)).bfloat16())
    normalised = group_norm_relu(volume.clone(), 4, torch.ones(4), 3 * torch.ones(4), 1e-5)
    expected = torch.relu(torch.nn.functional.group_norm(volume.double(), 4) + 3).float()
    torch.testing.assert_close(normalised.float(), expected, atol=1e-5, rtol=2**-8)


@pytest.mark.parametrize("function", [compose, lambda a, b: invert(0.1 * a) + 0 * b, sample])
def test_gradcheck(function):
    torch.manual_seed(0)
    first, second = (random_field((4, 3, 5), scale=0.7).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(function, (first, second))


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    shape = (17, 9, 11)
    outer, inner = random_field(shape, dtype=torch.float32), random_field(shape, dtype=torch.float32)
    features = channels_last(torch.randn(2, 12, *shape))
    threads = numba.get_num_threads()

    def everything():
        u, v, f = (tensor.detach().clone().requires_grad_() for tensor in (outer, inner, features))
        f = channels_last(f.detach()).requires_grad_()
        normalised = group_norm_relu(f, 4, torch.ones(12), torch.zeros(12), 1e-5)
        total = compose(u, v).square().sum() + sample(normalised, u).square().sum() + invert(0.2 * u).square().sum()
        return [total.detach(), *torch.autograd.grad(total, (u, v, f))]

    try:
        results = []
        for count in range(1, threads + 1):
            numba.set_num_threads(count)
            results.append(everything())
    finally:
        numba.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_nan_and_infinity_stay_where_they_are_and_read_nothing_outside():
    field = torch.zeros(1, 3, 5, 6, 7)
    field[0, 0, 1, 2, 3] = torch.nan
    field[0, 2, 4, 5, 6] = torch.inf
    field[0, 1, 0, 0, 0] = -1e30
    volume = torch.ones(1, 1, 5, 6, 7)
    for result in (compose(field, field), invert(field)):
        assert torch.isnan(result[0, 0, 1, 2, 3])
    assert torch.equal(sample(volume, field), volume)
    features = channels_last(torch.ones(1, 2, 5, 6, 7))
    assert torch.equal(sample(features, field), features)


def test_other_devices_and_dtypes_are_left_to_torch():
    half = torch.zeros(1, 3, 4, 4, 4, dtype=torch.float16)
    assert not kernels_serve(half)
    assert not kernels_serve(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert not kernels_serve(torch.zeros(1, device="meta"))
    assert sample(torch.ones_like(half), half).dtype == torch.float16


@pytest.mark.wrong_shapes
def test_a_field_of_another_grid_is_refused():
    with pytest.raises(
        ValueError, match=r"\(1, 1, 4, 4, 4\) cannot be read through a field of shape \(1, 3, 4, 4, 5\)"
    ):
        sample(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 3, 4, 4, 5))
    with pytest.raises(ValueError, match="cannot be read"):
        compose(torch.zeros(2, 3, 4, 4, 4), torch.zeros(1, 3, 4, 4, 4))


def test_float32_kernels_are_as_close_to_float64_as_torch_is():
    torch.manual_seed(0)
    outer, inner = random_field((40, 31, 22)), random_field((40, 31, 22))
    kernel = compose(outer.float(), inner.float())
    with plain_torch():
        plain, exact = compose(outer.float(), inner.float()), compose(outer, inner)
    assert (kernel - exact).abs().mean() <= 1.01 * (plain - exact).abs().mean()
