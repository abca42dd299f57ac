"""Updates as control points: what they compose to, and that they are as symmetric and invertible as they should be."""

import pytest
import torch

from lumirkit.registration.bspline import invertibility_bound, spline_displacement
from lumirkit.registration.inverse import invert
from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.refinement.updates import NetworkUpdate, OppositeUpdate, applied_in_turn
from lumirkit.registration.warp import compose

SHAPE = (24, 20, 28)


def control_points(seed, batch, spacing, amplitude=0.3):
    torch.manual_seed(seed)
    sizes = [-(-size // spacing) for size in SHAPE]
    return amplitude * (2 * torch.rand(batch, 3, *sizes, dtype=torch.float64) - 1)


def test_an_opposite_update_alone_is_phi_after_the_inverse_of_psi():
    points = control_points(0, 1, 4)
    found = applied_in_turn([OppositeUpdate(points, 4)], 1, SHAPE).registration()
    u = spline_displacement(points, 4, SHAPE)
    torch.testing.assert_close(found.forward_vox, compose(u, invert(-u)))
    torch.testing.assert_close(found.inverse_vox, compose(-u, invert(u)))


def test_it_counts_half_of_what_a_networks_update_of_the_same_control_points_does():
    points = 0.01 * control_points(0, 1, 4)
    parted = applied_in_turn([OppositeUpdate(points, 4)], 1, SHAPE).registration().forward_vox
    in_full = applied_in_turn([NetworkUpdate(torch.cat([points, -points]), 4)], 1, SHAPE).registration().forward_vox
    torch.testing.assert_close(in_full, 2 * parted, atol=1e-3, rtol=0.05)


def test_opposite_control_points_exchange_the_directions():
    first = NetworkUpdate(control_points(0, 2, 8), 8)
    exchanged = NetworkUpdate(first.control_points.roll(1, dims=0), 8)
    points = control_points(1, 1, 4)
    there = applied_in_turn([first, OppositeUpdate(points, 4)], 1, SHAPE).registration()
    back = applied_in_turn([exchanged, OppositeUpdate(-points, 4)], 1, SHAPE).registration()
    assert torch.equal(there.forward_vox, back.inverse_vox)
    assert torch.equal(there.inverse_vox, back.forward_vox)


def test_the_directions_are_inverses_of_each_other():
    updates = [NetworkUpdate(control_points(0, 2, 8), 8), OppositeUpdate(control_points(1, 1, 4), 4)]
    found = applied_in_turn(updates, 1, SHAPE).registration()
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
    coarse = applied_in_turn([OppositeUpdate(points, 4)], 2, SHAPE).registration()
    fine = applied_in_turn([OppositeUpdate(points, 4)], 1, SHAPE).registration()
    at_blocks = torch.nn.functional.avg_pool3d(fine.forward_vox, 2)
    inside = (..., *[slice(3, -3)] * 3)
    torch.testing.assert_close(2 * coarse.forward_vox[inside], at_blocks[inside], atol=0.12, rtol=0)
