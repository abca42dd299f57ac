"""Measures found without their metric's name, and configs in which two metrics have one measure."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lumirkit.commands.main import app
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.measures import find_measure
from lumirkit.eval.tables.summary import summary_table

RUNNER = CliRunner()
IN_DOMAIN = "3455_0000<--3454_0000"


def run(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def add_dice(root, labels):
    """A second Dice entry, called DSC deep, in the config of the in-domain split."""
    path = root / "LUMIR25_VAL_LUMIR24_Segmentation_evaluation_config.json"
    config = json.loads(path.read_text())
    config["evaluation_methods"].append({"name": "DSC deep", "metric": "dice", "labels": labels})
    path.write_text(json.dumps(config))


def scored(ground_truth, fields, folder):
    out = folder / "metrics.json"
    outcome = run("evaluate", "--ground-truth", ground_truth, "--fields", fields, "--out", out, "--tables", folder)
    assert outcome.exit_code == 0, outcome.output
    return out


def test_a_measure_is_found_whatever_its_metric_is_called():
    measures = {"DSC/dice": 0.5, "NDV/ndv_percent": np.nan, "other/ndv_percent": np.nan}
    assert find_measure(measures, "dice", "a case") == 0.5
    assert np.isnan(find_measure(measures, "ndv_percent", "a case"))  # both metrics say the same
    assert find_measure(measures, "tre_vox", "a case") is None
    with pytest.raises(EvaluationError, match=r"^a case: found dice of the metrics 'DSC' and 'deep'; expected one"):
        find_measure(measures | {"deep/dice": 0.6}, "dice", "a case")


def test_two_dice_entries_are_both_kept_and_a_table_refuses_them(ground_truth, fields, tmp_path):
    plain = scored(ground_truth, fields, tmp_path / "plain")
    add_dice(ground_truth, [4, 11])
    both = scored(ground_truth, fields, tmp_path / "both")
    before, after = (json.loads(path.read_text()) for path in (plain, both))
    assert after["cases"][IN_DOMAIN]["DSC"] == before["cases"][IN_DOMAIN]["DSC"]
    case = pd.read_csv(both.parent / "pairs.csv").set_index("case").loc[IN_DOMAIN]
    assert case["DSC/dice"] == before["guarded"]["cases"]["in-domain"][IN_DOMAIN]["DSC/dice"]
    assert case["DSC deep/dice"] == after["cases"][IN_DOMAIN]["DSC deep"]["mean"] != case["DSC/dice"]
    outcome = run("table", both, "--out", tmp_path / "table.md")
    assert outcome.exit_code != 0
    message = str(outcome.exception)
    assert message.startswith(f"both, {IN_DOMAIN} (in-domain): found dice of the metrics 'DSC' and 'DSC deep'; ")
    assert "have one of them alone" in message
    assert not (tmp_path / "table.md").exists()


def test_two_dice_entries_with_one_answer_make_a_table(ground_truth, fields, tmp_path):
    plain = scored(ground_truth, fields, tmp_path / "plain")
    add_dice(ground_truth, [0, 4, 11, 206])
    both = scored(ground_truth, fields, tmp_path / "both")
    texts = []
    for path in (plain, both):
        outcome = run("table", f"mine={path}", "--out", tmp_path / "table.md")
        assert outcome.exit_code == 0, outcome.output
        texts.append((tmp_path / "table.md").read_text())
    assert texts[0] == texts[1]


def test_the_summary_refuses_two_answers_too():
    aggregates = {name: {"mean": mean, "std": np.nan, "30": 0.0} for name, mean in (("HD95", 3.0), ("HD95 deep", 4.0))}
    kinds = dict.fromkeys(aggregates, "hd95")
    with pytest.raises(EvaluationError, match="mine: found HdDist95 of the metrics 'HD95' and 'HD95 deep'; expected"):
        summary_table({"mine": LeaderboardResult("LUMIR", {}, aggregates, kinds, guarded={"cases": {}})})
    aggregates["HD95 deep"]["mean"] = 3.0
    summary_table({"mine": LeaderboardResult("LUMIR", {}, aggregates, kinds, guarded={"cases": {}})})
