"""Thin-plate splines: exact at their control points and for affine maps, and what scipy finds everywhere else."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from lumirkit.registration.thin_plate import thin_plate_displacement

LATTICE, SHAPE = (4, 5, 3), (25, 33, 21)  # control points lie on voxels, 8, 8 and 10 apart


def controls(seed=0, lattice=LATTICE, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(1, 3, *lattice, generator=generator, dtype=dtype)


def lattice_positions(lattice=LATTICE, shape=SHAPE):
    axes = [torch.linspace(0, size - 1, count, dtype=torch.float64) for size, count in zip(shape, lattice, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_it_passes_through_its_control_points(dtype, tolerance):
    control_vox = controls(dtype=dtype)
    disp_vox = thin_plate_displacement(control_vox, SHAPE)
    assert disp_vox.dtype == dtype
    torch.testing.assert_close(disp_vox[..., ::8, ::8, ::10], control_vox, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_affine_maps_are_exact(dtype, tolerance):
    matrix = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.2, -0.1], [-0.3, 0.1, 0.05]], dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)[:, None, None, None]

    def affine(positions):
        return (torch.einsum("ab,bxyz->axyz", matrix, positions) + shift)[None].to(dtype)

    found = thin_plate_displacement(affine(lattice_positions()), SHAPE)
    torch.testing.assert_close(found, affine(lattice_positions(SHAPE)), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("lattice", "shape"), [(LATTICE, SHAPE), ((8, 8, 8), (20, 28, 24)), ((2, 3, 4), (40, 9, 16))], ids=str
)
def test_it_is_the_spline_that_scipy_finds(lattice, shape):
    """scipy's kernel is -r with an affine part; that is the thin-plate spline in three dimensions."""
    control_vox = controls(1, lattice)
    points, values = lattice_positions(lattice, shape).flatten(1).T, control_vox[0].flatten(1).T
    spline = RBFInterpolator(points.numpy(), values.numpy(), kernel="linear", degree=1)
    voxels = np.random.default_rng(0).integers(0, shape, size=(400, 3))
    found = thin_plate_displacement(control_vox, shape)[0, :, voxels[:, 0], voxels[:, 1], voxels[:, 2]].T
    difference = np.abs(found.numpy() - spline(voxels.astype(float)))
    largest = float(control_vox.abs().max())
    assert difference.max() < 5e-4 * largest
    assert difference.mean() < 5e-5 * largest


def test_every_field_of_a_batch_is_made_on_its_own():
    both = torch.cat([controls(0), controls(1)])
    one_by_one = [thin_plate_displacement(each, SHAPE) for each in both.split(1)]
    torch.testing.assert_close(thin_plate_displacement(both, SHAPE), torch.cat(one_by_one))


def test_gradients():
    control_vox = controls(lattice=(2, 3, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: thin_plate_displacement(c, (4, 5, 3)), (control_vox,))


def test_splines_first_met_while_predicting_serve_in_training():
    shape = (7, 11, 13)  # no other test has it
    with torch.inference_mode():
        thin_plate_displacement(controls(), shape)
    control_vox = controls().requires_grad_()
    thin_plate_displacement(control_vox, shape).sum().backward()
    # A displacement of all control points moves every voxel: the gradients of an axis add up to the voxels.
    torch.testing.assert_close(control_vox.grad.sum(dim=(0, 2, 3, 4)), torch.full((3,), 7.0 * 11 * 13).double())


@pytest.mark.parametrize(("lattice", "shape"), [((1, 4, 4), SHAPE), ((4, 4, 4), (9, 1, 9))])
def test_a_lattice_without_extent_is_refused(lattice, shape):
    with pytest.raises(ValueError, match="at least 2 of each along every axis"):
        thin_plate_displacement(controls(lattice=lattice), shape)
