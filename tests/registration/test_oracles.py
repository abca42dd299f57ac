"""The reference packages as independent oracles: composable-mapping (splines, warps), deformation-inversion-layer."""

import pytest
import torch
from composable_mapping import (
    CoordinateSystem,
    CubicSplineSampler,
    DataFormat,
    LinearInterpolator,
    samplable_volume,
)
from deformation_inversion_layer import DeformationInversionArguments, fixed_point_invert_deformation
from deformation_inversion_layer.fixed_point_iteration import AndersonSolver, MaxElementWiseAbsStopCriterion

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.inverse import invert
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.warp import sample

SHAPE = (24, 16, 32)
TOLERANCE_VOX = 1e-4


def voxel_coordinates(shape):
    axes = [torch.arange(size, dtype=torch.float32) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_spline(stride):
    torch.manual_seed(stride)
    control_points = torch.randn(1, 3, *coarse_shape(SHAPE, stride))
    fine = CoordinateSystem.voxel(SHAPE)
    coarse = fine.reformat(downsampling_factor=stride, spatial_shape=coarse_shape(SHAPE, stride))
    in_voxels = DataFormat.world_displacements()  # the world of `fine` is its voxels
    spline = samplable_volume(stride * control_points, coarse, data_format=in_voxels, sampler=CubicSplineSampler())
    expected = spline.sample_to(fine, data_format=in_voxels).generate_values()
    disp_vox = spline_displacement(control_points, stride, SHAPE)
    torch.testing.assert_close(disp_vox, expected, atol=TOLERANCE_VOX, rtol=0)


def test_linear_sampling():
    torch.manual_seed(0)
    volume, disp_vox = torch.randn(1, 2, *SHAPE), 3 * torch.randn(1, 3, *SHAPE)
    expected = LinearInterpolator().sample_values(volume, voxel_coordinates(SHAPE) + disp_vox)
    torch.testing.assert_close(sample(volume, disp_vox), expected, atol=TOLERANCE_VOX, rtol=0)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_inverse_and_its_gradient(stride):
    torch.manual_seed(stride)
    uniform = 2 * torch.rand(1, 3, *coarse_shape(SHAPE, stride)) - 1
    disp_vox = spline_displacement(0.6 * uniform * invertibility_bound(stride), stride, SHAPE)
    tight = AndersonSolver(MaxElementWiseAbsStopCriterion(max_iterations=200, threshold=1e-6))
    arguments = DeformationInversionArguments(forward_solver=tight, backward_solver=tight)
    cotangent = torch.randn(1, 3, *SHAPE)
    inverses, gradients = [], []
    for function in (invert, lambda field: fixed_point_invert_deformation(field, arguments)):
        leaf = disp_vox.clone().requires_grad_()
        inverse = function(leaf)
        (gradient,) = torch.autograd.grad(inverse, leaf, cotangent)
        inverses.append(inverse.detach())
        gradients.append(gradient)
    torch.testing.assert_close(*inverses, atol=TOLERANCE_VOX, rtol=0)
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)
