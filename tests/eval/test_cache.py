"""Interrupted scoring continues; what changed is scored again."""

import nibabel as nib
import numpy as np
import pytest

import lumirkit.eval.leaderboard
from lumirkit.eval.leaderboard import ScoringOptions, evaluate
from lumirkit.eval.mask_rule import MaskRule

CASES = 4


@pytest.fixture
def scored(monkeypatch):
    """The names of the cases that are scored, as they are."""
    names = []
    score_case = lumirkit.eval.leaderboard.score_case

    def noting(inputs):
        names.append(inputs.case.name)
        return score_case(inputs)

    monkeypatch.setattr("lumirkit.eval.leaderboard.score_case", noting)
    return names


def cached(ground_truth, fields, folder, **options):
    return evaluate(ground_truth, fields, options=ScoringOptions(cache=folder, **options))


def test_kept_results_are_the_same(ground_truth, fields, tmp_path, scored):
    first = cached(ground_truth, fields, tmp_path / "kept")
    assert len(scored) == CASES
    second = cached(ground_truth, fields, tmp_path / "kept")
    assert len(scored) == CASES
    assert second.to_json() == first.to_json() == evaluate(ground_truth, fields).to_json()
    assert [result for _, result in second.scored] == [result for _, result in first.scored]


def test_inf_and_nan_are_kept(ground_truth, fields, tmp_path, scored):
    for path in fields.iterdir():
        nib.save(nib.Nifti1Image(np.full((14, 12, 10, 3), 50, dtype=np.float32), np.eye(4)), path)
    first, second = (cached(ground_truth, fields, tmp_path / "kept") for _ in range(2))
    assert len(scored) == CASES
    assert first.to_json() == second.to_json()
    assert "Infinity" in second.to_json()


@pytest.mark.parametrize("changed", ["fields/disp_3455_3454", "ground-truth/labelsVal/LUMIRMRI_3455_0000"])
def test_a_changed_file_is_scored_again(ground_truth, fields, tmp_path, scored, changed):
    cached(ground_truth, fields, tmp_path / "kept")
    scored.clear()
    path = tmp_path / f"{changed}.nii.gz"
    data = np.asarray(nib.load(path).dataobj).copy()
    data[5, 5, 5] = 0
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    cached(ground_truth, fields, tmp_path / "kept")
    assert scored == ["3455_0000<--3454_0000"]


def test_another_rule_is_scored_again(ground_truth, fields, tmp_path, scored):
    cached(ground_truth, fields, tmp_path / "kept")
    cached(ground_truth, fields, tmp_path / "kept", mask_rule=MaskRule.LUMIR_2024)
    assert len(scored) == 2 * CASES


def test_interrupted_scoring_continues(ground_truth, fields, tmp_path, monkeypatch, scored):
    noting = lumirkit.eval.leaderboard.score_case

    def interrupted(inputs):
        if len(scored) == 2:
            raise KeyboardInterrupt
        return noting(inputs)

    monkeypatch.setattr("lumirkit.eval.leaderboard.score_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(ground_truth, fields, tmp_path / "kept")
    monkeypatch.setattr("lumirkit.eval.leaderboard.score_case", noting)
    cached(ground_truth, fields, tmp_path / "kept")
    assert len(scored) == CASES == len(set(scored))


def test_a_damaged_result_is_scored_again(ground_truth, fields, tmp_path, scored):
    cached(ground_truth, fields, tmp_path / "kept")
    scored.clear()
    next((tmp_path / "kept").iterdir()).write_text("{", encoding="utf-8")
    cached(ground_truth, fields, tmp_path / "kept")
    assert len(scored) == 1
