"""The ten determinants and the volume they turn inside out."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumirkit.registration.jacobian import TETRAHEDRA, jacobian_determinants, non_diffeomorphic_volume
from lumirkit.registration.kernels.dispatch import plain_torch

UNITS = np.eye(3, dtype=int)


def random_field(seed, amplitude, shape=(6, 5, 7), batch=2):
    generator = torch.Generator().manual_seed(seed)
    return amplitude * torch.randn(batch, 3, *shape, generator=generator, dtype=torch.float64)


def linear_field(scales, shape=(6, 5, 7)):
    """disp_vox of the map (x, y, z) -> (a x, b y, c z)."""
    axes = [torch.arange(size, dtype=torch.float64) for size in shape]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    factors = torch.tensor(scales, dtype=torch.float64)[:, None, None, None]
    return ((factors - 1) * coordinates)[None]


def volume_by_matrices(disp_vox):
    """Voxel by voxel with np.linalg.det: one-sided differences of the coordinates, and the two central J*."""
    disp = disp_vox.numpy()
    shape = disp.shape[1:]
    position = disp + np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    volume = np.zeros([n - 2 for n in shape])
    for voxel in product(*(range(1, n - 1) for n in shape)):
        here = np.array(voxel)

        def at(offset, here=here):
            return position[(slice(None), *(here + offset))]

        determinants = []
        for signs in product((1, -1), repeat=3):
            columns = [sign * (at(sign * unit) - at(0 * unit)) for sign, unit in zip(signs, UNITS, strict=True)]
            determinants.append(np.linalg.det(np.stack(columns, axis=1)))
        for corners in (((-1, -1, 0), (-1, 0, -1), (0, -1, -1)), ((1, 1, 0), (0, 1, 1), (1, 0, 1))):
            columns = [at(np.array(corner)) - at(np.zeros(3, dtype=int)) for corner in corners]
            determinants.append(np.linalg.det(np.stack(columns, axis=1)))
        volume[tuple(here - 1)] = sum(max(-d, 0) for d in determinants) / 12
    return volume


def test_identity_has_unit_cells():
    determinants = list(jacobian_determinants(torch.zeros(1, 3, 4, 4, 4)))
    assert [float(d.flatten()[0]) for d in determinants] == [1.0] * 8 + [2.0] * 2
    assert non_diffeomorphic_volume(torch.zeros(1, 3, 4, 4, 4)).abs().max() == 0


def test_the_tetrahedra_of_one_cutting_fill_the_cube():
    # Four corners (1/6 each) and one centre (2/6) make a cube; there are two cuttings.
    volumes = [np.linalg.det(np.array(tetrahedron)) / 6 for tetrahedron in TETRAHEDRA]
    assert min(volumes) > 0
    assert sum(volumes) == pytest.approx(2.0)


@pytest.mark.parametrize("scales", [(1.1, 0.9, 1.3), (0.2, 2.0, 1.0)])
def test_a_stretch_keeps_its_orientation(scales):
    field = linear_field(scales)
    assert non_diffeomorphic_volume(field).abs().max() == 0
    assert next(iter(jacobian_determinants(field))).flatten()[0].item() == pytest.approx(np.prod(scales))


def test_smooth_small_field_does_not_fold():
    x = torch.linspace(0, 3, 12, dtype=torch.float64)
    wave = torch.sin(x)[:, None, None] * torch.cos(x)[None, :, None] * torch.ones(12, dtype=torch.float64)
    assert non_diffeomorphic_volume(torch.stack([wave, -wave, 0.5 * wave])[None]).abs().max() == 0


@pytest.mark.parametrize("scales", [(-1.0, 1.0, 1.0), (1.0, -2.0, 1.5), (-1.0, -1.0, -1.0)])
def test_a_mirrored_grid_folds_by_the_volume_of_its_cells(scales):
    volume = non_diffeomorphic_volume(linear_field(scales))
    assert volume.shape == (1, 4, 3, 5)
    torch.testing.assert_close(volume, torch.full_like(volume, abs(np.prod(scales))))


def test_one_voxel_pushed_over_its_neighbour():
    # Voxel p moves 2.5 along x. At p the four corners towards +x have determinant 1 - 2.5 and J*2 has 2 - 2.5; at
    # p + x the four corners towards -x have 1 - 2.5; J* at three more voxels is 2 - 2.5. So (8 * 1.5 + 4 * 0.5) / 12.
    field = torch.zeros(1, 3, 9, 9, 9, dtype=torch.float64)
    field[0, 0, 4, 4, 4] = 2.5
    volume = non_diffeomorphic_volume(field)[0]
    assert volume[3, 3, 3].item() == pytest.approx(6.5 / 12)
    assert volume[4, 3, 3].item() == pytest.approx(6 / 12)
    assert volume.sum().item() == pytest.approx(14 / 12)


def plainly(function, *arguments):
    with plain_torch():
        return function(*arguments)


def with_gradient(field):
    leaf = field.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    volume = non_diffeomorphic_volume(leaf)
    weights = torch.arange(volume.numel(), dtype=volume.dtype).view_as(volume) / volume.numel()
    return volume.detach(), *torch.autograd.grad((weights * volume).sum(), leaf)


@pytest.mark.parametrize("amplitude", [0.2, 0.7, 2.0])
def test_equals_matrix_determinants(amplitude):
    field = random_field(seed=3, amplitude=amplitude)
    expected = np.stack([volume_by_matrices(single) for single in field])
    np.testing.assert_allclose(non_diffeomorphic_volume(field).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(plainly(non_diffeomorphic_volume, field).numpy(), expected, rtol=0, atol=1e-12)
    assert amplitude < 0.5 or expected.sum() > 1


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), shift=st.tuples(*[st.floats(-50, 50)] * 3))
def test_translation_changes_nothing(seed, shift):
    field = random_field(seed, amplitude=0.8, shape=(4, 5, 4), batch=1)
    moved = field + torch.tensor(shift, dtype=torch.float64)[None, :, None, None, None]
    torch.testing.assert_close(non_diffeomorphic_volume(moved), non_diffeomorphic_volume(field), rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_swapping_two_axes_changes_nothing(seed):
    field = random_field(seed, amplitude=0.8, shape=(4, 4, 4), batch=1)
    swapped = field[:, [1, 0, 2]].transpose(2, 3)
    expected = non_diffeomorphic_volume(field).transpose(1, 2)
    torch.testing.assert_close(non_diffeomorphic_volume(swapped), expected)


def test_gradient():
    field = random_field(seed=1, amplitude=0.8, shape=(4, 3, 4), batch=1).requires_grad_()
    assert non_diffeomorphic_volume(field).sum() > 0
    assert torch.autograd.gradcheck(non_diffeomorphic_volume, field)


def test_with_and_without_gradient_agree():
    field = random_field(seed=2, amplitude=0.8)
    assert torch.equal(non_diffeomorphic_volume(field.clone().requires_grad_()), non_diffeomorphic_volume(field))


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(3, 20)] * 3),
    batch=st.integers(1, 2),
    amplitude=st.sampled_from([0.1, 0.3, 1.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_kernel_equals_plain_torch(shape, batch, amplitude, dtype):
    field = random_field(sum(shape), amplitude, shape, batch).to(dtype)
    (volume, gradient), (expected_volume, expected_gradient) = with_gradient(field), plainly(with_gradient, field)
    assert torch.equal(volume, expected_volume)  # to the last bit: no fold appears or vanishes by rounding
    tolerance = 20 * torch.finfo(dtype).eps
    scale = float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=tolerance * scale)


def test_cells_of_no_volume_do_not_fold():
    """Neighbours on one point: the determinant is exactly 0, whatever numbers lead there."""
    field = random_field(seed=5, amplitude=0.1)
    field[:, :, 3] = field[:, :, 2]
    field[:, 0, 3] -= 1
    collapsed = jacobian_determinants(field)
    assert any((determinant == 0).any() for determinant in collapsed)
    assert torch.equal(non_diffeomorphic_volume(field) > 0, plainly(non_diffeomorphic_volume, field) > 0)


def test_any_strides(as_view):
    field = as_view(random_field(seed=4, amplitude=0.8, shape=(9, 6, 7)))
    for found, expected in zip(with_gradient(field), with_gradient(field.contiguous()), strict=True):
        assert torch.equal(found, expected)


def test_the_same_bytes_on_any_number_of_threads(on_threads):
    field = random_field(seed=6, amplitude=1.0, shape=(23, 12, 14)).float()
    for one, two in zip(*(on_threads(n, with_gradient, field) for n in (1, 2)), strict=True):
        assert torch.equal(one, two)


def test_what_is_no_number_shows():
    field = random_field(seed=7, amplitude=0.1)
    field[0, 1, 3, 2, 4] = float("nan")
    volume, gradient = with_gradient(field)
    assert volume[0, 2, 1, 3].isnan()
    assert gradient[0, :, 3, 2, 4].isnan().any()
    assert torch.equal(volume.isnan(), plainly(non_diffeomorphic_volume, field).isnan())
    assert volume[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(dtype):
    assert non_diffeomorphic_volume(torch.zeros(1, 3, 4, 4, 4, dtype=dtype)).dtype is dtype


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("shape", [(3, 4, 4, 4), (1, 4, 4, 4, 3), (1, 3, 4, 2, 4)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"disp_vox has shape .*expected \(batch, 3, X, Y, Z\)"):
        non_diffeomorphic_volume(torch.zeros(shape))


@pytest.mark.wrong_shapes
def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"torch.int64; expected a floating dtype"):
        jacobian_determinants(torch.zeros(1, 3, 4, 4, 4, dtype=torch.int64))
