"""Whether the examination of a container knows the right motion from the wrong ones."""

import numpy as np
import pytest
from scipy import ndimage

from lumirkit.registration.volume import read_image
from lumirkit.submission.container.exam_data import (
    ROTATION_DEGREES,
    TRANSLATION_VOX,
    make_exam_data,
    rotated,
    rotation_matrix,
    translated,
)
from lumirkit.submission.container.motion import rotation_found, translation_found

SHAPE = (32, 40, 34)


@pytest.fixture(scope="module")
def brain():
    offsets = np.indices(SHAPE) - np.array([15, 20, 17])[:, None, None, None]
    return ((offsets / np.array([11, 15, 12])[:, None, None, None]) ** 2).sum(axis=0) < 1


def translation():
    return np.broadcast_to(TRANSLATION_VOX, (*SHAPE, 3)).copy()


def rotation():
    offsets = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    return offsets @ (rotation_matrix(ROTATION_DEGREES) - np.eye(3)).T


@pytest.mark.parametrize(("make", "found"), [(translation, translation_found), (rotation, rotation_found)])
def test_the_right_motion_is_found_and_wrong_ones_are_not(make, found, brain):
    field = make()
    assert found(field, brain)[0]
    assert found(0.2 * field, brain)[0], "a network may find a part of it"
    assert not found(field / (np.array(SHAPE) / 2), brain)[0], "normalised instead of voxels"
    assert not found(-field, brain)[0], "the inverse"
    assert not found(0 * field, brain)[0]
    assert not found(field[..., ::-1], brain)[0], "components from last axis to first"
    assert not found(np.roll(field, 1, axis=-1), brain)[0]
    assert not found(3 * field, brain)[0], "another unit"


@pytest.mark.parametrize(("move", "field"), [(translated, translation), (rotated, rotation)])
def test_the_field_undoes_the_motion_of_the_image(move, field, brain):
    """warped(p) = moving(p + u(p)) is the image before it was moved."""
    image = ndimage.gaussian_filter(100.0 * brain, 2)
    warped = ndimage.map_coordinates(move(image), np.indices(SHAPE) + np.moveaxis(field(), -1, 0), order=1)
    before, after = (np.abs(other - image).max() for other in (move(image), warped))
    assert after < 0.2 * before


def test_the_dataset_holds_all_images_and_masks(tmp_path):
    data = make_exam_data(tmp_path, SHAPE)
    for pair in data.pairs:
        for name in (pair.fixed, pair.moving):
            assert read_image(tmp_path / name).shape == SHAPE
            assert read_image(tmp_path / "masks" / name.name).data.max() == 1
    assert sorted(pair.field_name for pair in data.pairs) == data.field_names
