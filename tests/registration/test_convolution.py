import pytest
import torch

from lumirkit.registration.convolution import Conv3d


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 2, 2), (3, 2, 3), (5, 4, 2)])
def test_gradients_in_bfloat16_are_those_in_float32(shape):
    """Where memory was used before: a gradient that is not written there shows."""
    torch.manual_seed(0)
    conv, volume, gradient = (
        Conv3d(8, 8, kernel_size=3, padding=1),
        torch.randn(2, 8, *shape),
        torch.randn(2, 8, *shape),
    )
    found = []
    for dtype in (torch.float32, *[torch.bfloat16] * 4):
        used = [torch.full_like(conv.weight, 1e30) for _ in range(3)]
        del used
        output = conv(volume.to(dtype))
        assert output.dtype == dtype
        found.append(torch.autograd.grad(output, conv.weight, gradient.to(dtype))[0])
    expected, *others = found
    for other in others:
        torch.testing.assert_close(other, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_a_small_volume_is_convolved_as_one_of_a_batch_is():
    """Torch has another way for one small volume alone, which is not taken."""
    torch.manual_seed(0)
    conv, volumes = Conv3d(4, 3, kernel_size=3, padding=1), torch.randn(2, 4, 6, 7, 5)
    with torch.profiler.profile() as profile:
        alone = torch.cat([conv(volume[None]) for volume in volumes])
    torch.testing.assert_close(alone, conv(volumes), rtol=0, atol=0)
    assert not [event for event in profile.key_averages() if "slow_conv" in event.key]
    (gradient,) = torch.autograd.grad(conv(volumes[:1]).square().sum(), conv.weight)
    (double,) = torch.autograd.grad(conv(volumes.double()[:1]).square().sum(), conv.weight)
    torch.testing.assert_close(gradient, double, rtol=1e-5, atol=1e-5)
