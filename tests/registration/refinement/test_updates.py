"""Updates as control points: what they compose to, and that they are as symmetric and invertible as they should be."""

import pytest
import torch

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.halves import Halves
from lumirkit.registration.inverse import invert
from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.network import Registration
from lumirkit.registration.refinement.updates import Mappings, NetworkUpdate, OppositeUpdate
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.warp import compose

SHAPE = (24, 20, 28)


def control_points(seed, batch, spacing, amplitude=0.3):
    torch.manual_seed(seed)
    sizes = [-(-size // spacing) for size in SHAPE]
    return amplitude * (2 * torch.rand(batch, 3, *sizes, dtype=torch.float64) - 1)


def mappings(updates, grid_vox):
    return Mappings(SHAPE, grid_vox, updates).on(grid_vox)


def test_an_opposite_update_alone_is_phi_after_the_inverse_of_psi():
    points = control_points(0, 1, 4)
    found = mappings([OppositeUpdate(points, 4)], 1).registration()
    u = spline_displacement(points, 4, SHAPE)
    torch.testing.assert_close(found.forward_vox, compose(u, invert(-u)))
    torch.testing.assert_close(found.inverse_vox, compose(-u, invert(u)))


def test_it_counts_half_of_what_a_networks_update_of_the_same_control_points_does():
    points = 0.01 * control_points(0, 1, 4)
    parted = mappings([OppositeUpdate(points, 4)], 1).registration().forward_vox
    in_full = mappings([NetworkUpdate(torch.cat([points, -points]), 4)], 1).registration().forward_vox
    torch.testing.assert_close(in_full, 2 * parted, atol=1e-3, rtol=0.05)


def test_opposite_control_points_exchange_the_directions():
    first = NetworkUpdate(control_points(0, 2, 8), 8)
    exchanged = NetworkUpdate(first.control_points.roll(1, dims=0), 8)
    points = control_points(1, 1, 4)
    there = mappings([first, OppositeUpdate(points, 4)], 1).registration()
    back = mappings([exchanged, OppositeUpdate(-points, 4)], 1).registration()
    assert torch.equal(there.forward_vox, back.inverse_vox)
    assert torch.equal(there.inverse_vox, back.forward_vox)


def test_the_directions_are_inverses_of_each_other():
    updates = [NetworkUpdate(control_points(0, 2, 8), 8), OppositeUpdate(control_points(1, 1, 4), 4)]
    found = mappings(updates, 1).registration()
    inside = (..., *[slice(6, -6)] * 3)
    left_over = compose(found.forward_vox, found.inverse_vox)[inside]
    assert float(left_over.abs().max()) < 0.3
    assert float(left_over.abs().mean()) < 0.02
    assert float(found.forward_vox[inside].abs().max()) > 1


@pytest.mark.parametrize("spacing", [1, 2, 4, 8])
def test_control_points_at_the_bound_do_not_fold(spacing):
    """Of any sign: the halves stay invertible, and so does what they compose to, up to interpolation."""
    signs = control_points(3, 1, spacing).sign()
    update = OppositeUpdate(invertibility_bound(spacing) * signs, spacing)
    for half in (1, -1):
        phi = half * spline_displacement(update.control_points, spacing, SHAPE)
        assert float(non_diffeomorphic_volume(phi).sum()) == 0


def test_a_finer_grid_sees_the_same_mapping():
    points = control_points(1, 1, 4)
    coarse = mappings([OppositeUpdate(points, 4)], 2).registration()
    fine = mappings([OppositeUpdate(points, 4)], 1).registration()
    at_blocks = torch.nn.functional.avg_pool3d(fine.forward_vox, 2)
    inside = (..., *[slice(3, -3)] * 3)
    torch.testing.assert_close(2 * coarse.forward_vox[inside], at_blocks[inside], atol=0.12, rtol=0)


def test_mappings_are_made_anew_on_a_finer_grid_and_read_on_a_coarser_one():
    updates = [NetworkUpdate(control_points(0, 2, 8), 8), OppositeUpdate(control_points(1, 1, 4), 4)]
    grown = Mappings(SHAPE, 2, updates[:1])
    grown.add(updates[1])
    assert torch.equal(grown.on(2).to_images, mappings(updates, 2).to_images)
    coarse = grown.on(4)
    assert coarse.to_images.shape[2:] == (6, 5, 7)
    assert torch.equal(coarse.to_images, grown.on(2).at_block_centres(2))
    assert torch.equal(grown.on(1).from_other, mappings(updates, 1).from_other)


@pytest.mark.parametrize("shape", [(48, 40, 56), (47, 39, 55)])
def test_refined_mappings_are_inverses_at_the_fine_voxels(shape):
    """Fields that are read between their voxels, both of them, are not."""
    updates = [NetworkUpdate(control_points(0, 2, 8), 8), OppositeUpdate(control_points(1, 1, 4), 4)]
    halves = mappings(updates, 1)
    read = halves.registration()
    read = Registration(*(refine_displacement(field, 2, shape) for field in (read.forward_vox, read.inverse_vox)))
    refined = halves.refined(2, shape).registration()
    inside = (..., *[slice(12, -12)] * 3)
    error_read, error = (
        compose(found.forward_vox, found.inverse_vox)[inside].norm(dim=1).mean() for found in (read, refined)
    )
    assert float(error) < 0.4 * float(error_read)
    torch.testing.assert_close(refined.forward_vox[inside], read.forward_vox[inside], atol=0.5, rtol=0)


def test_mappings_of_full_size_and_the_identity_stay_as_they_are():
    halves = mappings([OppositeUpdate(control_points(1, 1, 4), 4)], 1)
    assert halves.refined(1, SHAPE) is halves
    assert Halves().refined(2, SHAPE) == Halves()
