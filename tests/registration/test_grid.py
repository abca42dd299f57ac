"""Grids in the world and displacements between them, from closed forms and against nibabel."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import VolumeError
from lumirkit.registration.grid import Grid, between, flip_lps, to_mm, to_voxels, voxels_of
from lumirkit.registration.volume import Volume, write_volume

SHAPE = (5, 6, 7)


def affine_of(angles=(0, 0, 0), spacing=(1, 1, 1), signs=(1, 1, 1), order=(0, 1, 2), origin=(0, 0, 0)):
    axes = np.diag(np.array(spacing, float) * signs)[:, list(order)]
    return from_matvec(Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes, origin)


affines = st.builds(
    affine_of,
    st.tuples(*[st.floats(-40, 40)] * 3),
    st.tuples(*[st.floats(0.5, 3)] * 3),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.floats(-200, 200)] * 3),
)
grids = st.builds(Grid, st.tuples(*[st.integers(2, 7)] * 3), affines)


def field(shape, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, (*shape, 3))


@given(grids, grids)
def test_voxels_and_mm_are_two_forms_of_one_displacement(fixed, moving):
    disp_vox = field(fixed.shape)
    disp_ras_mm = to_mm(disp_vox, fixed, moving)
    np.testing.assert_allclose(to_voxels(disp_ras_mm, fixed, moving), disp_vox, atol=1e-8)
    at = voxels_of(fixed)
    there_mm = apply_affine(fixed.affine, at) + disp_ras_mm
    np.testing.assert_allclose(there_mm, apply_affine(moving.affine, at + disp_vox), atol=1e-8)


def test_a_translation_in_mm_on_flipped_and_exchanged_axes():
    """2 mm to the right, 3 to the front: on axes that run L, S, A at 2, 1, 0.5 mm that is -1, 0 and 6 voxels."""
    grid = Grid(SHAPE, np.array([[-2, 0, 0, 9], [0, 0, 0.5, -4], [0, 1, 0, 3], [0, 0, 0, 1.0]]))
    disp_vox = to_voxels(np.broadcast_to([2.0, 3.0, 0.0], (*SHAPE, 3)), grid, grid)
    np.testing.assert_allclose(disp_vox, np.broadcast_to([-1.0, 0.0, 6.0], (*SHAPE, 3)), atol=1e-12)
    np.testing.assert_array_equal(flip_lps(np.array([2.0, 3.0, 0.5])), [-2, -3, 0.5])


def test_to_stay_in_place_is_a_displacement_between_different_grids():
    fixed, moving = Grid(SHAPE, np.eye(4)), Grid((9, 9, 9), affine_of(signs=(-1, 1, 1), origin=(8, 0, 0)))
    disp_vox = to_voxels(np.zeros((*SHAPE, 3)), fixed, moving)
    np.testing.assert_allclose(disp_vox[1, 2, 3], [6, 0, 0])  # voxel 1 from the left is voxel 7 from the right
    assert not to_mm(disp_vox, fixed, moving).any()


@given(grids)
def test_canonical_voxels_are_those_of_nibabel(grid):
    numbers = np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape)
    expected = nib.as_closest_canonical(nib.Nifti1Image(numbers, grid.affine))
    assert grid.canonical.shape == expected.shape
    np.testing.assert_allclose(grid.canonical.affine, expected.affine, atol=1e-9)


@given(grids, grids, grids, affines)
def test_a_linear_motion_is_the_same_on_every_grid(frame, fixed, moving, motion):
    """Linear fields are interpolated exactly; a fixed grid within the frame sees the motion, wherever it is read."""
    centre = np.array(frame.shape) / 2 - 0.5
    inner = from_matvec(np.diag(0.4 * centre / np.array(fixed.shape)) @ np.linalg.qr(fixed.affine[:3, :3])[0], centre)
    inside = Grid(fixed.shape, frame.affine @ inner @ from_matvec(np.eye(3), -(np.array(fixed.shape) - 1) / 2))
    at_mm = apply_affine(frame.affine, voxels_of(frame))
    disp_vox = apply_affine(frame.voxel_from_mm @ motion, at_mm) - voxels_of(frame)
    expected_mm = apply_affine(motion, apply_affine(inside.affine, voxels_of(inside)))
    found_mm = apply_affine(moving.affine, voxels_of(inside) + between(disp_vox, frame, inside, moving))
    np.testing.assert_allclose(found_mm, expected_mm, atol=1e-6)


def test_a_field_goes_on_beyond_its_grid_as_at_its_border():
    frame, fixed = Grid((4, 4, 4), np.eye(4)), Grid((12, 4, 4), affine_of(origin=(-4, 0, 0)))
    disp_vox = np.zeros((4, 4, 4, 3))
    disp_vox[..., 1] = np.arange(4)[:, None, None]
    read = between(disp_vox, frame, fixed, fixed)
    np.testing.assert_allclose(read[:, 0, 0, 1], [0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3], atol=1e-12)
    np.testing.assert_allclose(read[..., [0, 2]], 0, atol=1e-12)


def test_the_same_place_is_one_to_the_rounding_of_headers(tmp_path):
    grid = Grid(SHAPE, affine_of((10, 20, 30), (0.9, 1.1, 1.3), origin=(-80.1, 90.2, 33.3)))
    write_volume(tmp_path / "a.nii.gz", np.ones(SHAPE, np.uint8), grid.affine)
    assert grid.same_as(Grid.from_file(tmp_path / "a.nii.gz"))
    assert not grid.same_as(Grid((5, 6, 8), grid.affine))
    assert not grid.same_as(Grid(SHAPE, affine_of(origin=(0.02, 0, 0)) @ grid.affine))


@pytest.mark.parametrize("broken", [np.diag([1.0, 0, 1, 1]), np.diag([1.0, np.nan, 1, 1]), np.diag([0.0, 0, 0, 1])])
def test_an_affine_without_inverse_is_refused(tmp_path, broken):
    with pytest.raises(VolumeError, match=r"a\.nii: .*no inverse.*Repair"):
        Grid.from_image(Volume(tmp_path / "a.nii", np.ones(SHAPE, np.float32), broken))


def test_small_voxels_are_no_flat_ones(tmp_path):
    assert Grid.from_image(Volume(tmp_path, np.ones(SHAPE, np.float32), np.diag([1e-3, 1e-3, 1e-3, 1]))).is_orthogonal
