"""`lumirkit evaluate` from the command line."""

import json

import pytest
from typer.testing import CliRunner

from lumirkit.commands.main import app

RUNNER = CliRunner()


@pytest.fixture
def arguments(ground_truth, fields, tmp_path):
    out = tmp_path / "scores" / "metrics.json"
    return ["evaluate", "--ground-truth", str(ground_truth), "--fields", str(fields), "--out", str(out)]


def test_writes_json_tables_and_kept_results(arguments, tmp_path):
    csv = tmp_path / "csv"
    outcome = RUNNER.invoke(app, [*arguments, "--zero-field", "--tables", str(csv), "--mask-rule", "2024"])
    assert outcome.exit_code == 0, outcome.output
    content = json.loads((tmp_path / "scores" / "metrics.json").read_text(encoding="utf-8"))
    assert content["guarded"]["mask"] == "moving image > 0"
    assert sorted(path.name for path in csv.iterdir()) == ["labels.csv", "landmarks.csv", "pairs.csv"]
    kept = tmp_path / "scores" / "metrics.cases"
    assert len(list(kept.glob("*.json"))) == len(list((kept / "zero-field").glob("*.json"))) == 4


def test_a_failed_pair_gives_exit_status_1(arguments, fields, tmp_path):
    (fields / "disp_3455_3454.nii.gz").write_bytes(b"not an image")
    outcome = RUNNER.invoke(app, arguments)
    assert outcome.exit_code == 1
    content = json.loads((tmp_path / "scores" / "metrics.json").read_text(encoding="utf-8"))
    assert list(content["guarded"]["failed"]) == ["3455_0000<--3454_0000"]


def test_a_missing_field_writes_nothing(arguments, fields, tmp_path):
    (fields / "disp_3455_3454.nii.gz").unlink()
    assert RUNNER.invoke(app, arguments).exception is not None
    assert not (tmp_path / "scores").exists()
