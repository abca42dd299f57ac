"""Dice against one pass per label."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.overlap import count_labels, dice_per_label

LABELS = [0, 3, 1, 7]
maps = arrays(np.int32, (4, 3, 5), elements=st.sampled_from([0, 1, 2, 3, 9, -1]))


def dice_by_label(fixed, moving, warped, labels):
    values = []
    for label in labels:
        if not (fixed == label).any() or not (moving == label).any():
            values.append(np.nan)
        else:
            both = ((fixed == label) & (warped == label)).sum()
            values.append(2 * both / ((fixed == label).sum() + (warped == label).sum()))
    return values


@given(maps, maps, maps)
def test_equals_one_pass_per_label(fixed, moving, warped):
    dice = dice_per_label(fixed, moving, warped, LABELS)
    np.testing.assert_array_equal(dice, dice_by_label(fixed, moving, warped, LABELS))


@given(maps, maps)
def test_is_symmetric_and_between_0_and_1(first, second):
    forward, backward = (dice_per_label(*pair, LABELS) for pair in ((first, second, second), (second, first, first)))
    np.testing.assert_array_equal(forward, backward)
    assert ((forward >= 0) & (forward <= 1) | np.isnan(forward)).all()


@given(maps)
def test_of_itself_is_1(label_map):
    dice = dice_per_label(label_map, label_map, label_map, LABELS)
    assert set(dice[~np.isnan(dice)]) <= {1.0}


def test_a_label_that_warping_emptied_scores_0():
    fixed = np.array([[[0, 3]]], dtype=np.int32)
    assert dice_per_label(fixed, fixed, np.zeros_like(fixed), [3]).tolist() == [0.0]


def test_counts_pass_over_unlisted_values():
    assert count_labels(np.array([5, 1, 1, -2, 100], dtype=np.int32), [1, 5, 6]).tolist() == [2, 1, 0]
