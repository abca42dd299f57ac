"""The table of structures."""

import pytest

from lumirkit.data_manifests.structures import structure_name, structures
from lumirkit.phantoms.brains import STRUCTURES


def test_the_table_holds_the_133_scored_ids():
    table = structures()
    assert len(table) == 133
    assert list(table) == sorted(table)
    assert (min(table), max(table)) == (0, 207)
    assert len({structure.name for structure in table.values()}) == 133


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (0, "background"),
        (4, "3rd Ventricle"),
        (11, "4th Ventricle"),
        (23, "Right Accumbens Area"),
        (30, "Left Accumbens Area"),
        (47, "Right Hippocampus"),
        (48, "Left Hippocampus"),
        (75, "Left Basal Forebrain"),
        (76, "Right Basal Forebrain"),
        (100, "Right ACgG anterior cingulate gyrus"),
        (207, "Left TTG transverse temporal gyrus"),
        (999, "label 999"),
    ],
)
def test_names(label, name):
    assert structure_name(label) == name


def test_right_and_left_come_in_pairs():
    table = structures()
    by_side = {
        side: {s.name.split(" ", 1)[1]: s for s in table.values() if s.hemisphere == side} for side in ("right", "left")
    }
    assert by_side["right"].keys() == by_side["left"].keys()
    assert len(by_side["right"]) == 63
    for name, right in by_side["right"].items():
        left = by_side["left"][name]
        assert (right.group, right.tissue) == (left.group, left.tissue)
    cortex = [s for s in table.values() if s.group == "cortex"]
    assert all((s.label % 2 == 0) == (s.hemisphere == "right") for s in cortex)


def test_the_phantom_uses_the_same_ids():
    words = {"third": "3rd", "fourth": "4th"}
    for structure in STRUCTURES:
        table_name = structure_name(structure.label).lower()
        for word in structure.name.split():
            assert words.get(word, word) in table_name, structure
