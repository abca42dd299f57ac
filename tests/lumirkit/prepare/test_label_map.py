"""Label maps on another grid, against shares that are computed for all ids at once."""

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
from lumirkit.prepare.label_map import resampled_ids

SHAPE = (32, 40, 36)


@pytest.fixture(scope="module")
def labels():
    return make_subject(PhantomSpec(shape=SHAPE), Subject(4))[1].astype(np.int16)


def shares(ids, matrix, shape):
    """The share of every id in each voxel, by one-hot maps and coordinates."""
    at = np.moveaxis(np.indices(shape).astype(float), 0, -1) @ matrix[:3, :3].T + matrix[:3, 3]
    present = np.union1d([0], ids)
    one_hot = [(ids == number).astype(float) for number in present]
    read = [map_coordinates(each, np.moveaxis(at, -1, 0), order=1, mode="grid-constant") for each in one_hot]
    read[0] = 1 - sum(read[1:])  # all beyond the map is background
    return present, np.stack(read)


def matrix_of(degrees, scales, shift):
    return from_matvec(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales), shift)


@pytest.mark.parametrize(
    ("matrix", "shape"),
    [
        (matrix_of((0, 0, 0), (0.47, 0.53, 0.51), (0.2, -0.4, 0.3)), (70, 80, 64)),
        (matrix_of((14, -9, 21), (0.6, 0.55, 0.7), (-3.1, 6.2, 1.7)), (61, 66, 52)),
        (matrix_of((0, 180, 0), (1.3, 1.1, 0.9), (30.2, 1.3, 33.9)), (24, 40, 41)),
    ],
    ids=["finer", "turned", "mirrored and coarser"],
)
def test_the_id_with_the_largest_share_wins(labels, matrix, shape):
    found = resampled_ids(labels, matrix, shape)
    assert (found.dtype, found.shape) == (labels.dtype, shape)
    present, each = shares(labels, matrix, shape)
    best = np.sort(each, axis=0)
    is_clear = best[-1] - best[-2] > 1e-5
    assert is_clear.mean() > 0.95
    np.testing.assert_array_equal(found[is_clear], present[each.argmax(0)][is_clear])


def test_the_identity_and_whole_steps_change_nothing(labels):
    np.testing.assert_array_equal(resampled_ids(labels, np.eye(4), SHAPE), labels)
    shifted = resampled_ids(labels, from_matvec(np.eye(3), [3, 0, -5]), SHAPE)
    np.testing.assert_array_equal(shifted[:-3, :, 5:], labels[3:, :, :-5])
    assert not shifted[-3:].any() and not shifted[:, :, :5].any()


def test_of_equal_shares_the_background_wins_and_then_the_lowest_id():
    row = np.array([0, 9, 9, 0, 7, 5, 0], np.uint8).reshape(-1, 1, 1)
    halves = from_matvec(np.diag([0.5, 1, 1]), [0, 0, 0])
    found = resampled_ids(row, halves, (13, 1, 1)).ravel()
    np.testing.assert_array_equal(found, [0, 0, 9, 9, 9, 0, 0, 0, 7, 5, 5, 0, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_ids_and_their_type_are_kept(dtype):
    ids = np.zeros((6, 6, 6), dtype)
    ids[1:3, 1:5, 1:5], ids[3:5, 1:5, 1:5] = 3, np.iinfo(dtype).max
    found = resampled_ids(ids, matrix_of((0, 0, 0), (0.4, 0.4, 0.4), (0.1, 0.1, 0.1)), (14, 14, 14))
    assert found.dtype == dtype
    assert set(np.unique(found)) == set(np.unique(ids))
