"""HD95 against the library on whole volumes, and by hand."""

import numpy as np
import pytest
from surface_distance import compute_robust_hausdorff, compute_surface_distances

from eval.surface import hd95_per_label

LABELS = [0, 5, 2, 9]


def blocks(seed):
    rng = np.random.default_rng(seed)
    label_map = np.zeros((18, 15, 16), dtype=np.int32)
    for label in (5, 2, 9, 7):
        start = rng.integers(0, 9, 3)  # some touch the border
        stop = start + rng.integers(1, 7, 3)
        label_map[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label
    label_map[rng.random(label_map.shape) < 0.02] = 5  # specks far from their block
    return label_map


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_library_on_the_whole_volume(seed):
    fixed, warped = blocks(seed), blocks(seed + 100)
    expected = []
    for label in LABELS:
        if not (fixed == label).any():
            expected.append(np.nan)
            continue
        distances = compute_surface_distances(fixed == label, warped == label, (1, 1, 1))
        expected.append(compute_robust_hausdorff(distances, 95))
    np.testing.assert_array_equal(hd95_per_label(fixed, fixed, warped, LABELS), expected)


def test_block_moved_by_three_voxels():
    fixed, warped = np.zeros((2, 20, 9, 9), dtype=np.int32)
    fixed[2:6, 3:6, 3:6] = 5
    warped[5:9, 3:6, 3:6] = 5
    assert hd95_per_label(fixed, fixed, warped, [5]).tolist() == [3.0]


def test_equal_maps_have_distance_0():
    label_map = blocks(1)
    present = [label for label in LABELS if (label_map == label).any()]
    assert not hd95_per_label(label_map, label_map, label_map, present).any()


def test_emptied_label_is_infinitely_far():
    fixed = blocks(2)
    warped = np.where(fixed == 5, 0, fixed).astype(np.int32)
    assert hd95_per_label(fixed, fixed, warped, [5]).tolist() == [np.inf]


@pytest.mark.parametrize("absent_from", ["fixed", "moving"])
def test_label_absent_before_warping_is_not_scored(absent_from):
    full = blocks(2)
    without = np.where(full == 5, 0, full).astype(np.int32)
    fixed, moving = (without, full) if absent_from == "fixed" else (full, without)
    assert np.isnan(hd95_per_label(fixed, moving, full, [5])).all()
