"""What is measured of a prepared brain, and its picture."""

import numpy as np
import pytest

from lumirkit.prepare.frame import as_bytes, brightest
from lumirkit.prepare.quality import Quality, measured, picture
from lumirkit.registration.volume import Volume

SHAPE = (40, 50, 44)
FINE = {"litres": 1.3, "overlap": 0.96, "symmetry": 0.97, "cut": 0.0, "histogram": [1]}


def ellipsoid(centre=(20, 25, 22), radii=(12, 15, 11)):
    at = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.square((at - centre) / np.array(radii)).sum(-1) < 1


def voxels(brain, value=100):
    return np.where(brain, value, 0).astype(np.uint8)


def test_a_brain_like_the_template_has_nothing_suspicious():
    brain = ellipsoid()
    found = measured(voxels(brain), brain, 1.3e6, float(brain.sum()))
    assert (found.overlap, found.symmetry, found.cut, found.suspicions) == (1, 1, 0, [])
    assert found.histogram[100 // 5] == sum(found.histogram) == brain.sum()


def test_symmetry_does_not_depend_on_where_the_brain_lies_but_on_its_sides():
    brain = ellipsoid((15, 25, 22))
    assert measured(voxels(brain), brain, 1.3e6, 1e4).symmetry > 0.98
    brain[:12] = False
    found = measured(voxels(brain), brain, 1.3e6, float(brain.sum()))
    assert found.symmetry < 0.9
    assert "symmetry" in found.suspicions[0]


def test_a_brain_cut_by_the_frame_is_told_of():
    brain = ellipsoid((20, 25, 40))
    whole = 4 / 3 * np.pi * 12 * 15 * 11
    found = measured(voxels(brain), brain, 1.3e6, whole)
    assert found.cut == pytest.approx(1 - brain.sum() / whole, abs=1e-4)
    assert "beyond the frame" in found.suspicions[0]


@pytest.mark.parametrize(
    "change", [{"litres": 0.6}, {"litres": 2.4}, {"overlap": 0.9}, {"symmetry": 0.9}, {"cut": 0.1}]
)
def test_each_number_can_be_suspicious(change):
    assert Quality(**FINE).suspicions == []
    assert len(Quality(**FINE | change).suspicions) == 1


def test_the_picture_shows_three_planes_with_both_outlines():
    head = np.full(SHAPE, 90, np.float32)
    pixels = picture(head, ellipsoid(), ellipsoid((20, 25, 22), (14, 17, 13)))
    assert pixels.shape == (50, 50 + 40 + 40, 3)
    colours = {tuple(int(part) for part in colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}
    assert colours == {(0, 0, 0), (90, 90, 90), (255, 190, 0), (40, 220, 255)}
    axial = pixels[:, 90:]
    rows = np.flatnonzero((axial == (255, 190, 0)).all(-1).any(1))
    assert (rows[0], rows[-1]) == (49 - 40, 49 - 10)  # front at the top


def test_intensities_become_bytes_with_1_in_the_brain_at_least():
    brain = ellipsoid()
    data = np.where(brain, np.random.default_rng(1).uniform(0, 4000, SHAPE), 9999).astype(np.float32)
    data[20, 25, 22] = 0
    head = Volume("head", data, np.eye(4))
    found = as_bytes(head, brain, brightest(head, brain))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found > 0, brain)
    assert found[20, 25, 22] == 1
    bright = np.percentile(data[brain], 99.8)
    np.testing.assert_allclose(found[brain], np.clip(data[brain] * 255 / bright, 1, 255), atol=0.51)
