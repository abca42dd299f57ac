"""The mean brain of a group."""

import numpy as np
import pytest

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.prepare.groupwise import groupwise_mean
from lumirkit.prepare.template_files import coarsened, write_template
from lumirkit.registration.volume import Volume, read_image, write_volume

SHAPE = (40, 44, 36)
SHIFTS = (2.0, 4.0, -3.0, 5.0)  # of each brain along x, in voxels; 2 on average
AFFINE = np.diag([1.0, 1, 1, 1])


def ball(x=0.0):
    """A brain with a bright kernel whose centre lies x voxels right of the middle."""
    at = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2 - [x, 0, 0]
    far = np.sqrt(np.square(at / [12, 14, 11]).sum(-1))
    return np.where(far < 1, 100 + 100 * (far < 0.5), 0).astype(np.uint8)


def centre(image):
    return np.average(np.arange(SHAPE[0]), weights=image.sum((1, 2))) - (SHAPE[0] - 1) / 2


def shift_between(fixed, moving):
    """Registers by the centres of mass along x: right for balls, and known."""
    field = np.zeros((*SHAPE, 3), np.float32)
    field[..., 0] = centre(moving.data) - centre(fixed.data)
    return field


@pytest.fixture
def brains(tmp_path):
    paths = [tmp_path / f"{number}.nii.gz" for number in range(len(SHIFTS))]
    for path, x in zip(paths, SHIFTS, strict=True):
        write_volume(path, ball(x), AFFINE)
    return paths


def test_it_lies_in_the_middle_of_all_and_is_sharp(brains):
    said = []
    mean = groupwise_mean(brains, shift_between, 2, said.append)
    assert centre(mean.data) == pytest.approx(np.mean(SHIFTS), abs=0.1)
    blurred = groupwise_mean(brains, shift_between, 0, said.append)
    truth = ball(np.mean(SHIFTS)).astype(float)
    errors = [np.abs(found.data - truth).mean() for found in (mean, blurred)]
    assert errors[0] < 0.2 * errors[1]
    assert len(said) == 4
    assert "mean gradient" in said[0]


def test_where_the_first_mean_lies_does_not_matter(brains):
    """A register that always finds one more voxel along y is a bias of the group, which the inverse takes out."""

    def biased(fixed, moving):
        return shift_between(fixed, moving) + np.float32([0, 3, 0])

    plain, moved = (groupwise_mean(brains, register, 1, lambda _: None) for register in (shift_between, biased))
    inner = np.s_[:, 6:-6]
    np.testing.assert_allclose(moved.data[inner], plain.data[inner], atol=1e-2)


def test_one_brain_is_no_group(brains):
    with pytest.raises(RequestError, match="at least 2"):
        groupwise_mean(brains[:1], shift_between, 1, lambda _: None)


def test_a_brain_elsewhere_is_refused(brains):
    write_volume(brains[2], ball(), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(VolumeError, match=r"2\.nii\.gz: lies on"):
        groupwise_mean(brains, shift_between, 1, lambda _: None)


def test_coarser_blocks_lie_where_their_voxels_do():
    brain = Volume("brain", ball(3).astype(np.float32), np.diag([1.0, 2, 1, 1]))
    coarse = coarsened(brain, 2)
    assert coarse.shape == (20, 22, 18)
    np.testing.assert_allclose(coarse.affine[:3, 3], [0.5, 1, 0.5])
    assert set(np.unique(coarse.data)) > {0.0, 100.0, 200.0}
    at_mm = np.average(coarse.affine[0, 3] + 2 * np.arange(20), weights=(coarse.data > 0).sum((1, 2)))
    assert at_mm == pytest.approx(np.average(np.arange(40), weights=(brain.data > 0).sum((1, 2))), abs=0.1)


def test_the_file_holds_the_mean_as_bytes(brains, tmp_path):
    out = tmp_path / "mean.nii.gz"
    write_template(brains, out, lambda: shift_between, 1, 2, lambda _: None)
    found = read_image(out)
    assert found.shape == (20, 22, 18)
    assert found.data.max() == 200
    with pytest.raises(RequestError, match="a folder among others"):
        write_template([brains[0], tmp_path], out, lambda: shift_between, 1, 2, lambda _: None)
