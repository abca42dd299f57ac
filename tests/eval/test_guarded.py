"""The guarded reading: statistics without inf and NaN, and what those came from."""

import json
import math

import nibabel as nib
import numpy as np
import pytest

from lumirkit.eval.guarded import DEFINITIONS, measure_statistics
from lumirkit.eval.leaderboard import ScoringOptions, evaluate

SHAPE = (14, 12, 10)
LANDMARKS, IN_DOMAIN = "3485_0000<--3484_0000", "3455_0000<--3454_0000"
OPPOSITE = ("disp_3484_3485", "disp_3454_3455", "disp_4014_4015", "disp_4033_0001_4024_0000")


def write_fields(folder, names, value):
    folder.mkdir(exist_ok=True)
    for name in names:
        data = np.broadcast_to(np.asarray(value, dtype=np.float32), (*SHAPE, 3))
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"{name}.nii.gz")


def test_statistics_leave_out_what_is_not_finite():
    values = {"a": 1.0, "b": 2.0, "c": 6.0, "d": math.inf, "e": math.nan}
    found = measure_statistics(values, {"d": ["label 4 was emptied"], "e": []})
    assert (found["mean"], found["median"], found["count"]) == (3, 2, 3)
    assert found["std"] == pytest.approx(math.sqrt(14 / 3))
    assert found["inf"] == {"d": ["label 4 was emptied"]}
    assert found["nan"] == {"e": []}


def test_statistics_of_nothing():
    assert measure_statistics({}, {}) == {"mean": None, "std": None, "median": None, "count": 0, "inf": {}, "nan": {}}


def test_emptied_labels_and_landmarks_are_named(ground_truth, fields):
    write_fields(fields, [path.name.removesuffix(".nii.gz") for path in fields.iterdir()], (50, 50, 50))
    guarded = evaluate(ground_truth, fields).guarded
    hd95 = guarded["splits"]["in-domain"]["HD95/hd95_vox"]
    assert (hd95["mean"], hd95["count"]) == (None, 0)
    assert hd95["inf"][IN_DOMAIN] == [
        "label 4 (3rd Ventricle) was emptied by warping",
        "label 11 (4th Ventricle) was emptied by warping",
        "label 206 (Right TTG transverse temporal gyrus) was emptied by warping",
    ]
    kept = guarded["splits"]["in-domain"]["HD95/hd95_of_kept_labels_vox"]
    assert (kept["count"], kept["inf"]) == (1, {})  # the background is left
    lost = guarded["overall"]["TRE_lm/tre_vox"]["nan"][LANDMARKS]
    assert lost == [f"landmark {label} was lost in warping" for label in (4, 11, 206)]
    assert guarded["overall"]["TRE_lm/point_vox"]["count"] == 1


def test_agrees_with_the_leaderboard_where_all_is_finite(ground_truth, fields):
    result = evaluate(ground_truth, fields)
    overall = result.guarded["overall"]
    for metric, measure in (("DSC", "dice"), ("HD95", "hd95_vox"), ("TRE_lm", "tre_vox")):
        assert overall[f"{metric}/{measure}"]["mean"] == pytest.approx(result.aggregates[metric]["mean"])
        assert overall[f"{metric}/{measure}"]["std"] == pytest.approx(result.aggregates[metric]["std"])
    in_domain = result.guarded["splits"]["in-domain"]["DSC/dice"]
    assert in_domain["mean"] == pytest.approx(result.aggregates["ID_dice"]["mean"])


def test_every_measure_is_defined(ground_truth, fields):
    write_fields(fields, OPPOSITE, 0)
    (fields / "disp_3455_3454.json").write_text('{"seconds": 1}')
    guarded = evaluate(ground_truth, fields, options=ScoringOptions(inverse_fields=fields, designs=True)).guarded
    assert set(guarded["definitions"]) == set(DEFINITIONS)
    assert {measure.split("/")[1] for measure in guarded["overall"]} == set(DEFINITIONS)


@pytest.mark.parametrize(("opposite", "expected"), [((-1, -2, 0.5), 0.0), ((0, 0, 0), math.sqrt(5.25))])
def test_inverse_consistency(ground_truth, fields, opposite, expected):
    write_fields(fields, [path.name.removesuffix(".nii.gz") for path in fields.iterdir()], (1, 2, -0.5))
    write_fields(fields, OPPOSITE, opposite)
    guarded = evaluate(ground_truth, fields, options=ScoringOptions(inverse_fields=fields)).guarded
    found = guarded["overall"]["field/inverse_consistency_vox"]
    assert found["count"] == 4
    assert found["mean"] == pytest.approx(expected, abs=1e-6)


def test_stands_beside_the_official_json(ground_truth):
    content = json.loads(evaluate(ground_truth, None).to_json())
    assert content["guarded"]["mask"] == "fixed image > 0"
    assert content["guarded"]["cases"]["in-domain"][IN_DOMAIN]["Non-diffeomorphic Volumes/folded_voxels"] == 0
