"""Splits of the user's own, beside the challenge's four or alone: in metrics.json, tables, statistics and report."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lumirkit.commands.main import app
from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.report.charts import distribution_charts, structure_charts
from lumirkit.eval.report.pairs import worst_first
from lumirkit.eval.tables.paper import PaperTable
from lumirkit.eval.tables.rows import RowCard, ScoredRow
from lumirkit.eval.tables.summary import summary_table

SUFFIX = "_evaluation_config.json"
OWN = "my lesions"
PAIR = "4015_0000<--4014_0000"


@pytest.fixture
def official(ground_truth, fields):
    """What is found without a split of one's own."""
    return evaluate(ground_truth, fields)


@pytest.fixture
def add_own(ground_truth):
    """Write a config of one's own: the pair of another split, fewer labels, a metric called as an official one."""

    def add(name=OWN):
        path = ground_truth / f"LUMIR25_VAL_HighField_Segmentation{SUFFIX}"
        config = json.loads(path.read_text())
        config["name"] = "not the challenge's"
        config["evaluation_methods"] = [
            {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
            {"name": "HD95", "metric": "dice", "labels": [4, 11]},
        ]
        (ground_truth / f"{name}{SUFFIX}").write_text(json.dumps(config))

    return add


def as_printed(results):
    console = Console(width=300, record=True)
    console.print(summary_table(results))
    return " ".join(console.export_text().split())


def test_the_challenges_numbers_are_the_same_beside_it(official, add_own, ground_truth, fields):
    add_own()
    found = evaluate(ground_truth, fields)
    before, after = json.loads(official.to_json()), json.loads(found.to_json())
    own = after["guarded"]["splits"].pop(OWN), after["guarded"]["cases"].pop(OWN)
    assert after == before
    assert list(own[0]) == [
        f"{name}/{measure}"
        for name, measures in (
            ("Non-diffeomorphic Volumes", ("ndv_percent", "folded_voxels", "sd_log_jacobian")),
            ("HD95", ("dice",)),
        )
        for measure in measures
    ]
    assert own[0]["HD95/dice"]["mean"] == own[1][PAIR]["HD95/dice"]
    labels = found.scored[-1][1].labels
    assert own[0]["HD95/dice"]["mean"] == np.mean([labels[label]["HD95/dice"] for label in (4, 11)])


def test_tables_have_columns_for_it(official, add_own, ground_truth, fields):
    before = PaperTable.of([ScoredRow.from_result(RowCard(name="a"), official)])
    printed = as_printed({"a": official})
    add_own()
    found = evaluate(ground_truth, fields)
    table = PaperTable.of([ScoredRow.from_result(RowCard(name="a"), found)])
    assert table.columns[: len(before.columns)] == before.columns
    assert [column.heading for column in table.columns[len(before.columns) :]] == [f"Dice {OWN}", f"NDV {OWN}"]
    cells = [dict(each.rows[0].cells) for each in (before, table)]
    assert {key: cells[1][key] for key in cells[0]} == cells[0]
    dice = found.guarded["splits"][OWN]["HD95/dice"]["mean"]
    assert cells[1][f"{OWN}/dice"].mean == pytest.approx(100 * dice)
    assert f"{OWN}/dice_mean" in table.as_text("csv")
    assert f"Dice {OWN}" in table.as_text("tex")

    summary = as_printed({"a": found})
    assert f"{100 * dice:.1f} (0.0)" in summary
    assert printed.split("mean (std)")[0].strip() in summary, "the challenge's cells stay as they are"


def test_commands_write_it(add_own, ground_truth, fields, tmp_path):
    add_own()
    rows = []
    for name in ("a", "b"):
        rows.append(f"{name}={tmp_path / name}.json")
        scored = ["evaluate", "--ground-truth", ground_truth, "--fields", fields, "--tables", tmp_path / "t"]
        assert CliRunner().invoke(app, [*map(str, scored), "--out", rows[-1].partition("=")[2]]).exit_code == 0
    assert OWN in set(pd.read_csv(tmp_path / "t" / "pairs.csv")["split"])
    assert OWN in set(pd.read_csv(tmp_path / "t" / "labels.csv")["split"])
    result = CliRunner().invoke(app, ["statistics", *rows, "--out", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    comparisons = pd.read_csv(tmp_path / "s" / "comparisons.csv")
    assert {f"{OWN}/dice", f"{OWN}/ndv_percent", "dice_in_domain"} <= set(comparisons["column"])


def test_the_ranking_is_the_challenges(official, add_own, ground_truth, fields):
    from lumirkit.eval.statistics.write import make_statistics

    def ranking(result):
        rows = [ScoredRow.from_result(RowCard(name=name), result) for name in ("a", "b")]
        return make_statistics(rows)["ranking"]

    before = ranking(official)
    add_own()
    pd.testing.assert_frame_equal(ranking(evaluate(ground_truth, fields)), before)


def test_the_report_shows_it(add_own, ground_truth, fields):
    add_own()
    found = evaluate(ground_truth, fields)
    assert OWN in structure_charts({"a": found})
    charts = distribution_charts([ScoredRow.from_result(RowCard(name="a"), found)])
    assert any(f"Dice {OWN}" in chart for chart in charts)
    assert OWN in [case.split for case in worst_first(found, 1)]


def test_an_evaluation_of_ones_own_alone(add_own, ground_truth, fields, tmp_path):
    add_own()
    for path in ground_truth.glob(f"LUMIR25*{SUFFIX}"):
        path.unlink()
    shutil.rmtree(ground_truth / "landmarksVal")
    found = evaluate(ground_truth, fields)
    assert set(found.cases) == {PAIR}
    assert found.aggregates["HD95"]["mean"] == found.guarded["overall"]["HD95/dice"]["mean"]
    table = PaperTable.of([ScoredRow.from_result(RowCard(name="a"), found)])
    assert [column.heading for column in table.columns] == [f"Dice {OWN}", f"NDV {OWN}"]
    lines = as_printed({"a": found})
    assert "in-domain" not in lines
    assert f"Dice {OWN} %" in lines
    assert f"NDV {OWN} %" in lines
