"""Dice against one pass per label."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lumirkit.eval.metrics.dice import confusion_matrix, dice_per_label, index_map, label_index

LABELS = [0, 1, 3, 7]
maps = arrays(np.int32, (4, 3, 5), elements=st.sampled_from([0, 1, 2, 3, 9, -1]))


def dice_by_matrix(fixed, moving, warped, labels):
    table = label_index(labels)
    size = len(labels) + 1
    fixed, moving, warped = (index_map(each, table) for each in (fixed, moving, warped))
    in_moving = np.bincount(moving.ravel(), minlength=size)
    return dice_per_label(confusion_matrix(fixed, warped, size), in_moving)[:-1]


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
    dice = dice_by_matrix(fixed, moving, warped, LABELS)
    np.testing.assert_array_equal(dice, dice_by_label(fixed, moving, warped, LABELS))


@given(maps, maps)
def test_is_symmetric_and_between_0_and_1(first, second):
    forward, backward = (dice_by_matrix(*pair, LABELS) for pair in ((first, second, second), (second, first, first)))
    np.testing.assert_array_equal(forward, backward)
    assert ((forward >= 0) & (forward <= 1) | np.isnan(forward)).all()


@given(maps)
def test_of_itself_is_1(label_map):
    dice = dice_by_matrix(label_map, label_map, label_map, LABELS)
    assert set(dice[~np.isnan(dice)]) <= {1.0}


def test_a_label_that_warping_emptied_scores_0():
    fixed = np.array([[[0, 3]]], dtype=np.int32)
    assert dice_by_matrix(fixed, fixed, np.zeros_like(fixed), [3]).tolist() == [0.0]


def test_index_of_ids_outside_the_list():
    label_map = np.array([5, 1, 6, -2, 100, 2**31 - 1], dtype=np.int32)
    assert index_map(label_map, label_index([6, 1, 6])).tolist() == [2, 0, 1, 2, 2, 2]


def test_confusion_matrix_has_fixed_rows():
    fixed, warped = np.array([0, 0, 1], dtype=np.int16), np.array([1, 1, 0], dtype=np.int16)
    assert confusion_matrix(fixed, warped, 2).tolist() == [[0, 2], [1, 0]]
