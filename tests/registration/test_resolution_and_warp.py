import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.resolution import (
    coarse_shape,
    coarsen_image,
    displacement_at_block_centres,
    refine_displacement,
)
from lumirkit.registration.warp import compose, sample

SHAPE = (9, 10, 11)


def translation(vector, shape=SHAPE):
    return torch.tensor(vector).view(1, 3, 1, 1, 1).expand(1, 3, *shape).contiguous()


def test_sampling_agrees_with_scipy_in_axis_order_and_direction():
    torch.manual_seed(0)
    volume, disp_vox = torch.rand(1, 1, *SHAPE), 2 * torch.randn(1, 3, *SHAPE)
    coordinates = np.indices(SHAPE) + disp_vox[0].numpy()
    for outside, mode in (("border", "nearest"), ("zeros", "grid-constant")):
        expected = map_coordinates(volume[0, 0].numpy(), coordinates, order=1, mode=mode)
        np.testing.assert_allclose(sample(volume, disp_vox, outside)[0, 0].numpy(), expected, atol=1e-5)


def test_composition_of_translations_adds():
    composed = compose(translation([1.0, 0.0, -2.0]), translation([0.25, 0.5, 1.0]))
    torch.testing.assert_close(composed, translation([1.25, 0.5, -1.0]))


def test_composition_applies_the_inner_field_first():
    torch.manual_seed(0)
    volume = torch.rand(1, 1, *SHAPE)
    shift = translation([1.0, 0.0, 0.0])
    stretch = torch.zeros(1, 3, *SHAPE)
    stretch[:, 1] = 0.5 * torch.arange(10).view(1, 1, -1, 1)
    warped_twice = sample(sample(volume, shift), stretch)
    warped_once = sample(volume, compose(shift, stretch))
    torch.testing.assert_close(warped_once[:, :, :-1, :6], warped_twice[:, :, :-1, :6])


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("shape", [(8, 12, 16), (9, 10, 11)])
def test_translations_survive_the_change_of_grid(stride, shape):
    fine = translation([2.0, -4.0, 1.0], shape)
    coarse = displacement_at_block_centres(fine, stride)
    assert coarse.shape[2:] == coarse_shape(shape, stride)
    torch.testing.assert_close(coarse, translation([2.0, -4.0, 1.0], coarse_shape(shape, stride)) / stride)
    torch.testing.assert_close(refine_displacement(coarse, stride, shape), fine)


def test_grids_keep_their_place():
    """A ramp's value at a position is the position: coarse and fine must agree on where their voxels are."""
    shape, stride = (8, 12, 16), 2
    ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 3, *shape)
    at_centres = displacement_at_block_centres(ramp, stride) * stride
    torch.testing.assert_close(at_centres[0, 0, :, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    torch.testing.assert_close(coarsen_image(ramp[:, :1], stride)[0, 0, :, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    refined = refine_displacement(at_centres / stride, stride, shape)
    torch.testing.assert_close(refined[0, 0, 1:-1, 0, 0], torch.arange(1.0, 7.0))


def test_coarsening_fills_odd_sizes_with_background():
    coarse = coarsen_image(torch.ones(1, 1, 3, 2, 2), 2)
    torch.testing.assert_close(coarse[0, 0, :, 0, 0], torch.tensor([1.0, 0.5]))


def test_brain_means_leave_the_background_out_where_brain_is_half_of_a_block():
    image = torch.zeros(1, 1, 8, 2, 2)
    image[0, 0, 0:2] = torch.tensor([4.0, 8.0])[:, None, None]
    image[0, 0, 2] = 5.0
    image[0, 0, 4, 0] = 7.0
    assert coarsen_image(image, 2, brain_means=True)[0, 0, :, 0, 0].tolist() == [6.0, 5.0, 0.0, 0.0]
    assert coarsen_image(image, 2)[0, 0, :, 0, 0].tolist() == [6.0, 2.5, 1.75, 0.0]


def test_operators_first_met_while_predicting_serve_in_training():
    shape = (7, 11, 13)  # no other test has it, so its operators are made here
    with torch.inference_mode(), plain_torch():
        refine_displacement(translation([1.0, 2.0, 3.0], coarse_shape(shape, 2)).double(), 2, shape)
    field = translation([1.0, 2.0, 3.0], coarse_shape(shape, 2)).double().requires_grad_()
    with plain_torch():
        refine_displacement(field, 2, shape).sum().backward()
    assert field.grad is not None
    torch.testing.assert_close(field.grad.sum(), torch.tensor(2.0 * 3 * 7 * 11 * 13, dtype=torch.float64))
