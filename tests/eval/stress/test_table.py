"""The rows of a stress test: means over the pairs that are there, changes of each pair against itself."""

import numpy as np
import pytest

from lumirkit.eval.stress.table import UNDISTURBED, Measured, curve_of, mean_rows, pair_rows, text_tables


def measured(method, disturbance, strength, pair, dice):
    return Measured(method, disturbance, strength, "in-domain", pair, dice, 0.00032, 2.0)


SETTINGS = [(UNDISTURBED, 0), ("noise", 3.0), ("noise", 12.0), ("gamma", 0.5), ("voxels", 2.0)]


def means_of(rows):
    return mean_rows(pair_rows(rows), SETTINGS, ["net", "zero"])


@pytest.fixture
def rows():
    """Pair b, the worse one, is missing at 12 %."""
    return [
        measured("net", UNDISTURBED, 0, "a", 70.0),
        measured("net", UNDISTURBED, 0, "b", 50.0),
        measured("zero", UNDISTURBED, 0, "a", 40.0),
        measured("zero", UNDISTURBED, 0, "b", 30.0),
        measured("net", "noise", 3.0, "a", 66.0),
        measured("net", "noise", 3.0, "b", 48.0),
        measured("zero", "noise", 3.0, "a", 40.0),
        measured("zero", "noise", 3.0, "b", 30.0),
        measured("net", "noise", 12.0, "a", 60.0),
        measured("net", "gamma", 0.5, "a", 65.0),
        measured("net", "gamma", 0.5, "b", 45.0),
    ]


def test_means_and_changes(rows):
    means = means_of(rows).set_index(["method", "disturbance", "strength"])
    assert means.loc["net", "noise", 3.0]["dice_percent"] == 57
    assert means.loc["net", "noise", 3.0]["dice_change"] == -3
    assert means.loc["net", "noise", 3.0]["pairs"] == 2
    assert means.loc["net", "noise", 3.0]["unit"] == "% of 255"
    lost = means.loc["net", "noise", 12.0]
    assert (lost["dice_percent"], lost["dice_change"], lost["pairs"]) == (60, -10, 1)  # not 60 against 60


def test_a_pair_that_failed_undisturbed_has_no_change(rows):
    pairs = pair_rows([row for row in rows if (row.method, row.disturbance, row.pair) != ("net", UNDISTURBED, "b")])
    changes = pairs[(pairs["method"] == "net") & (pairs["strength"] == 3)].set_index("pair")["dice_change"]
    assert changes["a"] == -4
    assert np.isnan(changes["b"])


def test_the_tables_say_what_is_missing(rows):
    dice, ndv, seconds = text_tables(means_of(rows), 2)
    assert dice.headings == ("disturbance", "strength", "net", "zero")
    assert dice.rows[0] == ("none", "", "60.0", "35.0")
    assert dice.rows[1] == ("noise", "3 % of 255", "57.0 (-3.0)", "35.0 (+0.0)")
    assert dice.rows[2] == ("noise", "12 % of 255", "60.0 (-10.0) of 1 pair", "failed")
    assert dice.rows[4] == ("voxels", "2 mm", "failed", "failed")
    assert ndv.rows[0][2:] == ("3.2e-4", "3.2e-4")
    assert seconds.rows[0][2:] == ("2.0", "2.0")
    assert ndv.rows[2][2:] == ("3.2e-4 of 1 pair", "failed")
    assert seconds.rows[2][2:] == ("2.0 of 1 pair", "failed")
    lines = dice.to_markdown().splitlines()
    assert lines[2:4] == ["| disturbance | strength | net | zero |", "| --- | --- | --: | --: |"]


def test_a_curve_goes_through_the_undisturbed_pairs(rows):
    means = means_of(rows)
    strengths, dice = curve_of(means, "net", "gamma")
    np.testing.assert_array_equal(strengths, [0.5, 1])
    np.testing.assert_array_equal(dice, [55, 60])
    np.testing.assert_array_equal(curve_of(means, "net", "noise")[0], [0, 3, 12])
    np.testing.assert_array_equal(curve_of(means, "zero", "gamma")[0], [1])
    np.testing.assert_array_equal(curve_of(means, "net", "voxels")[0], [1])
