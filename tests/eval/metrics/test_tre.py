"""TRE of landmarks moved by known vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumirkit.eval.metrics.shared.warping import warp_labels
from lumirkit.eval.metrics.tre import landmark_errors

SHAPE = (20, 18, 16)
CENTRES = {1: (7, 8, 6), 7: (12, 9, 7), 3: (9, 12, 10)}


def landmark_map(centres):
    label_map = np.zeros(SHAPE, dtype=np.int32)
    for label, (x, y, z) in centres.items():
        label_map[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = label
    return label_map


def shifted(vector):
    return {label: tuple(np.add(centre, vector)) for label, centre in CENTRES.items()}


def constant_field(vector):
    return np.broadcast_to(np.array(vector, dtype=np.float32), (*SHAPE, 3))


def errors(fixed, moving, vector=(0, 0, 0), affine=None):
    disp_vox = constant_field(vector)
    warped = warp_labels(moving, disp_vox)
    return landmark_errors(fixed, moving, warped, disp_vox, np.eye(4) if affine is None else affine)


whole = st.integers(-4, 4)


@given(st.tuples(whole, whole, whole))
def test_translation_of_d_voxels_gives_d(vector):
    label_map = landmark_map(CENTRES)
    found = errors(label_map, label_map, vector)
    np.testing.assert_allclose(found.tre_vox, np.linalg.norm(vector), atol=1e-12)
    np.testing.assert_allclose(found.point_vox, np.linalg.norm(vector), atol=1e-6)
    assert found.mean_tre_vox == pytest.approx(np.linalg.norm(vector))


@given(st.tuples(whole, whole, whole))
def test_the_right_translation_gives_0(vector):
    found = errors(landmark_map(CENTRES), landmark_map(shifted(vector)), vector)
    np.testing.assert_allclose([found.tre_vox, found.point_vox], 0, atol=1e-6)


def test_millimetres_come_from_the_affine():
    affine = np.diag([0.5, 2.0, 3.0, 1.0])[[1, 0, 2, 3]]  # with exchanged axes
    found = errors(landmark_map(CENTRES), landmark_map(shifted((4, 0, 0))), affine=affine)
    np.testing.assert_allclose([found.tre_vox, found.point_vox], 4)
    np.testing.assert_allclose([found.tre_mm, found.point_mm], 2)


def test_point_error_sees_less_than_half_a_voxel():
    label_map = landmark_map(CENTRES)
    found = errors(label_map, label_map, (0.4, 0, 0))
    np.testing.assert_array_equal(found.tre_vox, 0)
    np.testing.assert_allclose(found.point_vox, 0.4, rtol=1e-6)


def test_lost_landmark_is_nan_but_has_a_point_error():
    label_map = landmark_map(CENTRES)
    emptied = np.where(label_map == 7, 0, label_map).astype(np.int32)
    found = landmark_errors(label_map, label_map, emptied, constant_field((0, 0, 0)), np.eye(4))
    assert np.isnan(found.mean_tre_vox)
    np.testing.assert_array_equal(np.isnan(found.tre_vox), found.landmarks == 7)
    np.testing.assert_array_equal(found.point_vox, 0)


def test_landmark_of_the_moving_image_alone_is_passed_over():
    kept = {label: centre for label, centre in CENTRES.items() if label != 7}
    found = errors(landmark_map(kept), landmark_map(CENTRES))
    assert (found.landmarks.tolist(), found.mean_tre_vox) == ([1, 3], 0)


def test_map_without_landmarks():
    with pytest.raises(ValueError, match="no label above 0"):
        errors(np.zeros(SHAPE, dtype=np.int32), landmark_map(CENTRES))
