"""The CSV tables hold the numbers of the JSON."""

import pandas as pd
import pytest

from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.tables.measured import write_tables

IN_DOMAIN = "3455_0000<--3454_0000"


def test_tables_hold_every_pair_label_and_landmark(ground_truth, fields, tmp_path):
    result = evaluate(ground_truth, fields)
    assert [path.name for path in write_tables(tmp_path / "csv", result)] == [
        "pairs.csv",
        "labels.csv",
        "landmarks.csv",
    ]
    pairs, labels, landmarks = (pd.read_csv(tmp_path / "csv" / f"{n}.csv") for n in ("pairs", "labels", "landmarks"))
    assert pairs["case"].tolist() == list(result.cases)
    row = pairs.set_index("case").loc[IN_DOMAIN]
    assert (row["split"], row["fixed"], row["moving"]) == ("in-domain", "3455_0000", "3454_0000")
    assert row["DSC/dice"] == pytest.approx(result.cases[IN_DOMAIN]["DSC"]["mean"], rel=1e-15)
    case_rows = labels[labels["case"] == IN_DOMAIN]
    assert case_rows["label"].tolist() == [0, 4, 11, 206]
    assert case_rows["name"].tolist()[:3] == ["background", "3rd Ventricle", "4th Ventricle"]
    for metric, measure in (("DSC", "dice"), ("HD95", "hd95_vox")):
        assert case_rows[f"{metric}/{measure}"].tolist() == pytest.approx(result.cases[IN_DOMAIN][metric]["detailed"])
    assert landmarks["landmark"].tolist() == [4, 11, 206]
    assert landmarks["TRE_lm/tre_vox"].mean() == pytest.approx(result.aggregates["TRE_lm"]["mean"])


def test_failed_pairs_have_a_row(ground_truth, fields, tmp_path):
    (fields / "disp_3455_3454.nii.gz").write_bytes(b"")
    write_tables(tmp_path / "csv", evaluate(ground_truth, fields))
    pairs = pd.read_csv(tmp_path / "csv" / "pairs.csv").set_index("case")
    assert len(pairs) == 4
    assert "not a readable NIfTI image" in pairs.loc[IN_DOMAIN, "failed"]


def test_a_table_of_an_earlier_call_does_not_stay(ground_truth, fields, tmp_path):
    write_tables(tmp_path / "csv", evaluate(ground_truth, fields))
    (ground_truth / "LUMIR25_VAL_LUMIR24_Landmark_evaluation_config.json").unlink()
    write_tables(tmp_path / "csv", evaluate(ground_truth, fields))
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["labels.csv", "pairs.csv"]
