"""The local NCC of two brains, cut to their boxes, beside that of the whole volume."""

import pytest
import torch

from lumirkit.registration.losses import with_mask
from lumirkit.registration.ncc import local_ncc
from lumirkit.registration.network import Registration
from lumirkit.registration.overlap import where_mostly_brain
from lumirkit.registration.refinement.comparison import Comparison
from lumirkit.registration.resolution import coarse_shape, refine_displacement


def brain(shape, box, seed):
    """Random intensities inside a box, background 0, in double precision."""
    image = torch.zeros(1, 1, *shape, dtype=torch.float64)
    inside = (..., *(slice(low, high) for low, high in box))
    image[inside] = torch.rand(image[inside].shape, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    return with_mask(image)


def in_the_whole_volume(registration, fixed, moving, stride, window):
    total = 0
    for disp_vox, still, warped in (
        (registration.forward_vox, fixed, moving),
        (registration.inverse_vox, moving, fixed),
    ):
        refined_vox = refine_displacement(disp_vox, stride, fixed.shape[2:])
        total = total + local_ncc(*where_mostly_brain(still, warped, refined_vox), window)
    return total / 2


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        ((40, 44, 37), [(9, 25), (10, 30), (12, 22)], [(12, 30), (8, 28), (10, 25)]),
        ((25, 21, 30), [(0, 25), (3, 21), (2, 9)], [(1, 24), (0, 18), (5, 30)]),  # up to the borders
    ],
)
def test_it_is_that_of_the_whole_volume_and_so_is_its_gradient(shape, first, second, stride):
    window, source = 7, torch.Generator().manual_seed(3)
    fixed, moving = brain(shape, first, 1), brain(shape, second, 2)
    fields = [
        (2 * torch.randn(1, 3, *coarse_shape(shape, stride), generator=source).double() / stride).requires_grad_()
        for _ in range(2)
    ]
    registration = Registration(*fields)
    found = Comparison(fixed, moving, stride, window).local_ncc(registration)
    expected = in_the_whole_volume(registration, fixed, moving, stride, window)
    assert expected > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for gradient, wanted in zip(torch.autograd.grad(found, fields), torch.autograd.grad(expected, fields), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-15)


def test_images_without_brain_are_alike_in_nothing():
    empty = torch.zeros(1, 2, 12, 13, 14)
    zero = torch.zeros(1, 3, 12, 13, 14)
    assert Comparison(empty, empty, 1, 5).local_ncc(Registration(zero, zero)) == 0
