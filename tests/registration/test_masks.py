"""Masks that come on other grids than their images, and masks that are none."""

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.ndimage import gaussian_filter

from lumirkit.base.errors import VolumeError
from lumirkit.registration.header import HeaderPlace
from lumirkit.registration.masks import inside_of, masked, within
from lumirkit.registration.volume import Volume, read_place, write_volume

SHAPE = (16, 18, 14)
AFFINE = from_matvec(np.eye(3), (-8, -9, -7))
BRAIN = np.zeros(SHAPE, np.float32)
BRAIN[3:13, 3:15, 3:11] = 100
HALF = np.zeros(SHAPE, bool)
HALF[2:8, 2:16, 2:12] = True


def image():
    return Volume("image.nii.gz", BRAIN, AFFINE)


def flipped(mask):
    return mask[::-1], AFFINE @ from_matvec(np.diag([-1, 1, 1]), (SHAPE[0] - 1, 0, 0))


def coarse(mask):
    return mask[::2, ::2, ::2], AFFINE @ np.diag([2.0, 2, 2, 1])


def padded(mask):
    return np.pad(mask, 3), AFFINE @ from_matvec(np.eye(3), (-3, -3, -3))


def permuted(mask):
    return mask.transpose(2, 0, 1), AFFINE @ from_matvec(np.eye(3)[:, [2, 0, 1]], (0, 0, 0))


@pytest.mark.parametrize("stored", [flipped, padded, permuted])
def test_one_mask_in_the_world_masks_the_same_voxels_however_it_is_stored(stored, tmp_path):
    mask, affine = stored(HALF)
    write_volume(tmp_path / "mask.nii.gz", mask.astype(np.uint8) * 255, affine)
    found = masked(image(), tmp_path / "mask.nii.gz", place=read_place(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(found.data, np.where(HALF, BRAIN, 0))


def test_a_coarser_mask_is_read_at_its_nearest_voxel():
    mask, affine = coarse(HALF)
    found = within(image(), mask, "mask", HeaderPlace(affine, None, False)).data
    assert np.mean((found > 0) == (np.where(HALF, BRAIN, 0) > 0)) > 0.9


def test_a_mask_with_soft_edges_holds_what_is_half_or_more(tmp_path):
    soft = gaussian_filter(HALF.astype(np.float32), 0.8)
    write_volume(tmp_path / "mask.nii.gz", soft, AFFINE)
    found = masked(image(), tmp_path / "mask.nii.gz", place=read_place(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(found.data, np.where(soft >= 0.5, BRAIN, 0))


@pytest.mark.parametrize(
    ("values", "words"),
    [([0, 0.5, 1.5], "found values from 0 to 1.5"), ([-0.5, 0.5, 1], "from -0.5 to 1"), ([0, np.nan, 1], "nan")],
)
def test_what_is_no_mask_is_refused_as_none(values, words):
    with pytest.raises(VolumeError, match=f"mask: .*{words}.*expected a mask"):
        inside_of(np.array(values)[:, None, None], "mask")


def test_a_mask_without_a_place_counts_voxels():
    found = within(image(), HALF, "mask").data
    np.testing.assert_array_equal(found, np.where(HALF, BRAIN, 0))


@pytest.mark.parametrize(
    ("mask", "place", "words"),
    [
        (np.zeros(SHAPE, bool), None, "no voxel is above 0"),
        (~(BRAIN > 0) | (np.arange(14) < 4), None, "looks inverted"),
        (HALF, HeaderPlace(from_matvec(np.eye(3), (200, 0, 0)), None, False), "lies elsewhere than image.nii.gz"),
        (HALF, HeaderPlace(np.eye(4), None, True), "Copy that header"),
    ],
    ids=["empty", "inverted", "elsewhere", "a guess"],
)
def test_what_is_no_mask_of_the_image_is_refused(mask, place, words):
    with pytest.raises(VolumeError, match=words):
        within(image(), mask, "mask.nii.gz", place)


def test_a_mask_that_leaves_out_a_lesion_is_none_of_the_background():
    mask = np.ones(SHAPE, bool)
    mask[5:8, 5:8, 5:8] = False
    assert np.count_nonzero(within(image(), mask, "mask").data) == np.count_nonzero(BRAIN) - 27
