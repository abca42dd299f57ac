"""Telling pairs of one contrast from pairs of two."""

import pytest
import torch

from lumirkit.registration.contrast import is_one_contrast
from lumirkit.registration.network import Registration

SHAPE = (1, 1, 24, 24, 24)
T1W = (60.0, 140.0, 200.0)  # the intensities of fluid, grey and white matter; the background is 0
ANOTHER_T1W = (45.0, 120.0, 215.0)
FLAIR = (50.0, 190.0, 150.0)
T2W = (230.0, 150.0, 110.0)
NO_CONTRAST = (100.0, 100.0, 100.0)
TWO_VALUES = (200.0, 200.0, 40.0)  # nothing of the white matter counts as tissue, and the rest has one value


@pytest.fixture
def tissues():
    """Background 0, fluid 1, grey 2, white matter 3: a ball of shells, a tenth of it fluid."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in SHAPE[2:]), indexing="ij")
    radius = torch.stack(axes).norm(dim=0)[None, None]
    return (radius < 0.95).long() + (radius < 0.9) + (radius < 0.7)


def an_image(tissues, intensities):
    noise = torch.randn(tissues.shape, generator=torch.Generator().manual_seed(int(sum(intensities))))
    image = torch.tensor((0.0, *intensities))[tissues]
    return torch.where(tissues > 0, (image + 4 * noise).clamp(1, 255), image)


@pytest.fixture
def unmoved():
    zero = torch.zeros(1, 3, *SHAPE[2:])
    return Registration(zero, zero)


def test_t1w_images_are_of_one_contrast(tissues, unmoved):
    assert is_one_contrast(unmoved, an_image(tissues, T1W), an_image(tissues, ANOTHER_T1W))


@pytest.mark.parametrize("other", [FLAIR, T2W], ids=["FLAIR", "T2w"])
def test_images_in_which_other_tissue_is_bright_are_not(tissues, unmoved, other):
    t1w, other = an_image(tissues, T1W), an_image(tissues, other)
    assert not is_one_contrast(unmoved, t1w, other)
    assert not is_one_contrast(unmoved, other, t1w)


def test_dark_fluid_alone_would_not_tell_flair_apart(tissues):
    brain = tissues > 0
    both = torch.stack([an_image(tissues, contrast)[brain] for contrast in (T1W, FLAIR)])
    assert torch.corrcoef(both)[0, 1] > 0


@pytest.mark.parametrize("nothing", [NO_CONTRAST, TWO_VALUES])
def test_images_that_tell_nothing_are_not_of_one_contrast(tissues, unmoved, nothing):
    flat = torch.tensor((0.0, *nothing))[tissues]
    assert not is_one_contrast(unmoved, an_image(tissues, T1W), flat)
    assert not is_one_contrast(unmoved, torch.zeros_like(flat), flat)
