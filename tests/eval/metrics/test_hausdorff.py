"""Surface distances against DeepMind's library on whole volumes, and by hand."""

import numpy as np
import pytest
from surface_distance import (
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from lumirkit.eval.metrics.dice import index_map, label_index
from lumirkit.eval.metrics.hausdorff import find_surfaces, surface_scores_per_label

LABELS = [0, 2, 5, 9]


def scores(fixed, warped, labels, moving=None):
    table = label_index(labels)
    moving = fixed if moving is None else moving
    surfaces = (find_surfaces(index_map(each, table), len(labels)) for each in (fixed, warped))
    scored = np.array([(fixed == label).any() and (moving == label).any() for label in labels])
    return surface_scores_per_label(*surfaces, scored)


def blocks(seed):
    rng = np.random.default_rng(seed)
    label_map = np.zeros((18, 15, 16), dtype=np.int32)
    for label in (5, 2, 9, 7):
        start = rng.integers(0, 9, 3)  # some touch the border
        stop = start + rng.integers(1, 7, 3)
        label_map[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label
    label_map[rng.random(label_map.shape) < 0.02] = 5  # specks far from their block
    return label_map


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_library_on_the_whole_volume(seed):
    fixed, warped = blocks(seed), blocks(seed + 100)
    found = scores(fixed, warped, LABELS)
    for n, label in enumerate(LABELS):
        if not (fixed == label).any():
            assert np.isnan([found.hd95_vox[n], found.hd100_vox[n], found.surface_dice[n]]).all()
            continue
        distances = compute_surface_distances(fixed == label, warped == label, (1, 1, 1))
        assert found.hd95_vox[n] == compute_robust_hausdorff(distances, 95)
        assert found.hd100_vox[n] == compute_robust_hausdorff(distances, 100)
        assert found.surface_dice[n] == pytest.approx(compute_surface_dice_at_tolerance(distances, 1), rel=1e-12)


def test_surfels_and_areas_are_those_of_the_library():
    label_map = blocks(3)
    surfaces = find_surfaces(index_map(label_map, label_index(LABELS)), len(LABELS))
    for n, label in enumerate(LABELS):
        distances = compute_surface_distances(label_map == label, label_map == label, (1, 1, 1))
        assert surfaces.start[n + 1] - surfaces.start[n] == distances["surfel_areas_gt"].size


def test_block_moved_by_three_voxels():
    fixed, warped = np.zeros((2, 20, 9, 9), dtype=np.int32)
    fixed[2:6, 3:6, 3:6] = 5
    warped[5:9, 3:6, 3:6] = 5
    found = scores(fixed, warped, [5])
    assert (found.hd95_vox.tolist(), found.hd100_vox.tolist()) == ([3.0], [3.0])
    assert 0 < found.surface_dice[0] < 1


def test_equal_maps_have_distance_0():
    label_map = blocks(1)
    present = [label for label in LABELS if (label_map == label).any()]
    found = scores(label_map, label_map, present)
    assert not found.hd95_vox.any()
    assert not found.hd100_vox.any()
    assert (found.surface_dice == 1).all()


def test_emptied_label_is_infinitely_far():
    fixed = blocks(2)
    warped = np.where(fixed == 5, 0, fixed).astype(np.int32)
    found = scores(fixed, warped, [5])
    assert (found.hd95_vox[0], found.hd100_vox[0], found.surface_dice[0]) == (np.inf, np.inf, 0)


@pytest.mark.parametrize("absent_from", ["fixed", "moving"])
def test_label_absent_before_warping_is_not_scored(absent_from):
    full = blocks(2)
    without = np.where(full == 5, 0, full).astype(np.int32)
    fixed, moving = (without, full) if absent_from == "fixed" else (full, without)
    assert np.isnan(scores(fixed, full, [5], moving).hd95_vox).all()
