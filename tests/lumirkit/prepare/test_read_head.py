"""What is no scan of a head is refused with a sentence."""

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.errors import VolumeError
from lumirkit.prepare.read_head import read_head, read_mask
from lumirkit.registration.volume import write_volume

AFFINE = np.diag([4.0, 4, 4, 1])
NOISE = np.random.default_rng(3).integers(1, 200, (40, 44, 38))
CIRCLE = np.hypot(*np.ogrid[-20:20, -22:22])[..., None] < 18


BAD = {
    "4-D": (np.repeat(NOISE[..., None], 3, axis=3), "found a 4-D volume"),
    "one slice": (NOISE[..., :1], "found a single slice"),
    "localiser": (NOISE[..., :3], "shows 160 x 176 x 12 mm; expected at least 60 mm"),
    "CT": (np.where(CIRCLE, NOISE - 50, -1000), "as of a CT in Hounsfield units"),
    "CT in a circle": (np.where(CIRCLE, NOISE - 1000, -3024), "as of a CT in Hounsfield units"),
    "z-scores": (NOISE - 100, "many of them below 0"),
    "constant": (np.full(NOISE.shape, 7), "every voxel is 7"),
    "zero": (np.zeros(NOISE.shape), "every voxel is zero"),
    "NaN": (np.where(NOISE == 5, np.nan, NOISE), "voxels are NaN or inf"),
}


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_it_is_refused(tmp_path, data, said):
    path = tmp_path / "head.nii.gz"
    write_volume(path, data.astype(np.float32), AFFINE)
    with pytest.raises(VolumeError, match=rf"head\.nii\.gz: .*{said}"):
        read_head(path)


def test_what_is_no_image_is_refused(tmp_path):
    for name in ("head.nii.gz", "head.mgz"):
        (tmp_path / name).write_text("a letter")
        with pytest.raises(VolumeError, match=f"{name}: not a readable"):
            read_head(tmp_path / name)
    with pytest.raises(VolumeError, match="no such file"):
        read_head(tmp_path / "nothing.nii")


def test_a_header_that_says_nothing_is_refused(tmp_path):
    image = nib.Nifti1Image(NOISE.astype(np.float32), None)
    image.header.set_zooms((4, 4, 4))
    nib.save(image, tmp_path / "head.nii")
    with pytest.raises(VolumeError, match="neither where it lies nor which side is left"):
        read_head(tmp_path / "head.nii")


def test_mgh_and_nifti_are_read_alike_and_nothing_is_below_0(tmp_path):
    data = NOISE.astype(np.float32)
    data[0, 0, 0] = -3
    write_volume(tmp_path / "head.nii.gz", data, AFFINE)
    nib.save(nib.MGHImage(data, AFFINE), tmp_path / "head.mgz")
    one, other = (read_head(tmp_path / f"head.{suffix}") for suffix in ("nii.gz", "mgz"))
    np.testing.assert_array_equal(one.data, np.maximum(data, 0))
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_allclose(one.affine, other.affine)


def test_a_mask_on_a_grid_of_its_own_covers_what_is_dark_too(tmp_path):
    data = NOISE.astype(np.float32)
    data[20, 22, 19] = 0
    write_volume(tmp_path / "head.nii.gz", data, AFFINE)
    fine = np.zeros((80, 88, 76), np.uint8)
    fine[20:60, 20:60, 20:60] = 1
    place = np.diag([2.0, 2, 2, 1])
    place[:3, 3] = -1
    write_volume(tmp_path / "mask.nii.gz", fine, place)
    inside = read_mask(tmp_path / "mask.nii.gz", read_head(tmp_path / "head.nii.gz"))
    expected = np.zeros(NOISE.shape, bool)
    expected[10:30, 10:30, 10:30] = True
    np.testing.assert_array_equal(inside, expected)
