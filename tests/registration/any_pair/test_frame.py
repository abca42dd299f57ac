"""Images carried to the networks' frame: intensities, grids, resampling."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import from_matvec

from lumirkit.base.errors import VolumeError
from lumirkit.registration.any_pair.frame import frame_of, normalised, resampled
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume


def brain(path, shape=(40, 44, 36), affine=None, scale=1.0):
    """A ball with a gradient, of 14 voxels' radius around the middle, on background 0."""
    at = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    inside = np.square(at).sum(axis=-1) < 14**2
    return Volume(path, (scale * np.where(inside, 150 + 7 * at[..., 0], 0)).astype(np.float32), affine)


def test_bright_voxels_are_mapped_to_255_and_negative_ones_to_0(tmp_path):
    data = np.zeros((30, 30, 30), np.float32)
    data[5:25, 5:25, 5:25] = np.linspace(1, 4095, 8000).reshape(20, 20, 20)
    data[0] = -70
    scaled = normalised(Volume(tmp_path, data, np.eye(4))).data
    bright = np.percentile(data[data > 0], 99.8)
    np.testing.assert_allclose(scaled, np.clip(data * 255 / bright, 0, 255), rtol=1e-6)
    assert (scaled.min(), scaled.max()) == (0, 255)
    assert (scaled[data == 0] == 0).all()


@given(st.sampled_from([1e-6, 1e-4, 2, 300]))
def test_the_scale_of_the_intensities_does_not_matter(scale):
    image, other = brain("a", affine=np.eye(4), scale=300), brain("b", affine=np.eye(4), scale=300 * scale)
    np.testing.assert_allclose(normalised(other).data, normalised(image).data, atol=1e-3)


def test_intensities_in_the_range_stay_as_they_are(tmp_path):
    image = brain(tmp_path, affine=np.eye(4))
    assert normalised(image) is image


def test_without_a_voxel_above_0_there_is_no_brain(tmp_path):
    with pytest.raises(VolumeError, match="no voxel is above 0"):
        normalised(Volume(tmp_path, np.full((9, 9, 9), -3, np.float32), np.eye(4)))


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSR", "IPL"])
def test_a_shared_grid_of_1_mm_is_the_frame_with_its_axes_in_order(tmp_path, codes):
    ras = nib.Nifti1Image(brain(tmp_path, affine=np.eye(4)).data, from_matvec(np.eye(3), (-20, 30, 7)))
    turned = ras.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes))
    )
    image = Volume(tmp_path, turned.get_fdata(dtype=np.float32), turned.affine)
    frame = frame_of(image, image)
    assert frame.same_as(Grid(ras.shape, ras.affine))
    np.testing.assert_allclose(resampled(image, frame).data, ras.get_fdata(), atol=1e-3)


def test_a_large_shared_grid_is_cropped_without_interpolation(tmp_path):
    image = brain(tmp_path, (240, 240, 250), from_matvec(np.diag([-1.0, 1, 1]), (120.5, -120, -100)))
    frame = frame_of(image, image)
    assert frame.shape == (64, 64, 64)
    carried = resampled(image, frame).data
    np.testing.assert_allclose(np.sort(carried[carried > 0]), np.sort(image.data[image.data > 0]), atol=1e-3)


def test_other_grids_meet_in_a_box_around_both_brains(tmp_path):
    fixed = brain(tmp_path, affine=from_matvec(np.diag([-1.5, 1.5, 1.5]), (100, 0, 0)))
    moving = brain(tmp_path, affine=from_matvec(np.eye(3), (40, 20, 10)))
    frame = frame_of(fixed, moving)
    assert all(size % 32 == 0 for size in frame.shape)
    np.testing.assert_array_equal(frame.affine[:3, :3], np.eye(3))
    for image in (fixed, moving):
        carried = resampled(image, frame).data
        inside = np.argwhere(carried > 0)
        assert (inside.min(axis=0) >= 3).all()
        assert (inside.max(axis=0) <= np.array(frame.shape) - 4).all()
        volume_mm3 = np.abs(np.linalg.det(image.affine[:3, :3]))
        np.testing.assert_allclose(carried.sum(), image.data.sum() * volume_mm3, rtol=1e-3)  # nothing is cut off


def test_the_voxels_of_a_fixed_image_in_the_frame_are_kept(tmp_path):
    fixed = brain(tmp_path, affine=from_matvec(np.eye(3), (0.3, 0.7, -9.2)))
    frame = frame_of(fixed, brain(tmp_path, affine=np.diag([1.2, 1.2, 1.2, 1])))
    offset = np.rint(frame.affine[:3, 3] - fixed.affine[:3, 3]).astype(int)
    carried = resampled(fixed, frame).data
    x, y, z = np.argwhere(fixed.data > 0).T
    np.testing.assert_allclose(carried[x - offset[0], y - offset[1], z - offset[2]], fixed.data[x, y, z], atol=1e-3)


def test_smaller_voxels_are_averaged(tmp_path):
    """A pattern finer than 1 mm leaves its mean, not whatever falls on the coarser voxels."""
    data = np.zeros((80, 80, 80), np.float32)
    data[10:70, 10:70, 10:70] = 100
    data[10:70:2, 10:70, 10:70] = 200
    carried = resampled(Volume(tmp_path, data, np.diag([0.5, 0.5, 0.5, 1])), Grid((40, 40, 40), np.eye(4)))
    np.testing.assert_allclose(carried.data[12:28, 12:28, 12:28], 150, atol=10)


@pytest.mark.parametrize("spacing_mm", [0.001, 30])
def test_a_brain_of_impossible_size_is_refused(tmp_path, spacing_mm):
    image = brain(tmp_path / "a.nii", affine=np.diag([spacing_mm] * 3 + [1]))
    with pytest.raises(VolumeError, match=r"a\.nii: .* mm of it are not background.*spacing and units"):
        frame_of(image, image)
