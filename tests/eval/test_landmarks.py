"""TRE of landmarks moved by known vectors."""

import numpy as np
import pytest

from eval.landmarks import target_registration_error


def landmark_map(centres, shape=(20, 18, 16)):
    label_map = np.zeros(shape, dtype=np.int32)
    for label, (x, y, z) in centres.items():
        label_map[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = label
    return label_map


CENTRES = {1: (4, 5, 6), 7: (12, 9, 3), 3: (9, 14, 11)}


def moved(vector):
    return {label: tuple(np.add(centre, vector)) for label, centre in CENTRES.items()}


@pytest.mark.parametrize("vector", [(0, 0, 0), (2, 0, 0), (1, -2, 2)])
def test_translation(vector):
    error = target_registration_error(landmark_map(CENTRES), landmark_map(moved(vector)))
    assert error == pytest.approx(np.linalg.norm(vector))


def test_mean_over_landmarks():
    warped = landmark_map({**CENTRES, 7: (12, 9, 6), 3: (9, 14, 10)})
    assert target_registration_error(landmark_map(CENTRES), warped) == pytest.approx((0 + 3 + 1) / 3)


def test_lost_landmark_is_nan():
    kept = {label: centre for label, centre in CENTRES.items() if label != 7}
    assert np.isnan(target_registration_error(landmark_map(CENTRES), landmark_map(kept)))


def test_landmark_of_the_moving_image_alone_is_passed_over():
    kept = {label: centre for label, centre in CENTRES.items() if label != 7}
    assert target_registration_error(landmark_map(kept), landmark_map(CENTRES)) == 0


def test_map_without_landmarks():
    with pytest.raises(ValueError, match="no label above 0"):
        target_registration_error(np.zeros((3, 3, 3), dtype=np.int32), landmark_map(CENTRES))
