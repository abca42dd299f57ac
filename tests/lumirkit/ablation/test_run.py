"""Ablations from nothing to the table: shared work, kills, failures, several workers."""

import json
import re
import shutil
import signal
from pathlib import Path

import forked
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lumirkit.ablation.plan import load_ablation
from lumirkit.ablation.run import run_ablation
from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.registration.device import Place
from lumirkit.train.recipe import RecipeError

CPU = Place(torch.device("cpu"))
BASE = {
    "name": "tiny",
    "network": {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]},
    "stages": [
        {"epochs": 2, "items_per_epoch": 2, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}},
        {"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5, "ndv_weight": 1e-5}},
    ],
}
ROWS = [
    {"name": "plain", "stages": 1},
    {"name": "+NDV", "parent": "plain", "adds": ["NDV"], "stages": 2},
    {"name": "+ENS", "parent": "+NDV", "adds": ["ENS"], "members": 2},
]


@pytest.fixture
def plan(tmp_path):
    def write(rows=ROWS, base=BASE, **more) -> Path:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
        (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"name": "test", "base": "base.yaml", "rows": rows, **more}))
        return tmp_path / "rows.yaml"

    return write


def weights_of(out):
    return {str(path.relative_to(out)): load_file(path) for path in sorted(out.glob("runs/*/*/weights/*"))}


def started(text):
    """The jobs that were begun, in their order."""
    return re.findall(r"^((?:runs|rows|references)/\S+)$", text, re.MULTILINE)


def command(plan, data, out):
    return ("ablation", plan, "--data", data, "--out", out)


def test_from_nothing_to_the_table_and_nothing_twice(phantom_root, plan, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_ablation(load_ablation(plan()), phantom_root, out, [CPU], ["zero"]).failures == {}
    jobs = [
        "references/zero",
        "runs/plain/seed0",
        "rows/plain",
        "runs/NDV/seed0",
        "rows/NDV",
        "runs/NDV/seed1",
        "rows/ENS",
    ]
    assert started(capsys.readouterr().err) == jobs
    table = (out / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:6]] == ["*zero field*", "plain", "+NDV", "+ENS"]
    assert (out / "table.tex").exists()
    assert (out / "table.csv").exists()
    assert (out / "statistics" / "comparisons.csv").read_text().count("+NDV,plain") == 6
    card = json.loads((out / "rows" / "ENS" / "row.json").read_text())
    assert list(card["made_by"]) == ["runs/NDV/seed0", "runs/NDV/seed1"]
    log = [json.loads(line)["step"] for line in (out / "runs/NDV/seed0/log.jsonl").read_text().splitlines()]
    assert log == [1, 2, 3, 4, 5, 6]  # four of them trained by the run of the row before
    assert run_ablation(load_ablation(plan()), phantom_root, out, [CPU], ["zero"]).failures == {}
    assert started(capsys.readouterr().err) == []
    more = [*ROWS, {"name": "slow", "parent": "plain", "set": {"stages.*.learning_rate": 1e-4}}]
    run_ablation(load_ablation(plan(more)), phantom_root, out, [CPU], ["zero"])
    assert started(capsys.readouterr().err) == ["runs/slow/seed0", "rows/slow"]
    assert "| slow |" in (out / "table.md").read_text()


def test_killed_twice_it_ends_as_if_it_had_not_been(phantom_root, plan, tmp_path, lumirkit):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_ablation(load_ablation(plan()), phantom_root, whole, [CPU])
    for result in ("runs/plain/seed0/log.jsonl", "runs/NDV/seed1/log.jsonl"):
        process = forked.lumirkit(tmp_path / "said", *command(plan(), phantom_root, cut))
        process.wait_until((cut / result).exists)
        assert process.kill() == -signal.SIGKILL
        assert not (cut / "table.md").exists()
    finished = lumirkit(*command(plan(), phantom_root, cut))
    assert finished.returncode == 0, finished.stderr
    assert "runs/plain/seed0" not in started(finished.stderr)
    assert (cut / "table.md").read_text() == (whole / "table.md").read_text()
    expected, found = weights_of(whole), weights_of(cut)
    assert list(found) == list(expected)
    assert all(torch.equal(tensor, found[file][name]) for file in expected for name, tensor in expected[file].items())


def test_a_failing_row_costs_itself_and_what_needs_it(phantom_root, plan, tmp_path):
    rows = [
        {"name": "wild", "stages": 1, "set": {"stages.*.learning_rate": 1e30}},
        {"name": "tuned", "parent": "wild", "stages": 2},
        {"name": "tame", "stages": 1},
    ]
    failures = run_ablation(load_ablation(plan(rows)), phantom_root, tmp_path / "out", [CPU]).failures
    assert set(failures) == {"runs/wild/seed0", "rows/wild", "runs/tuned/seed0", "rows/tuned"}
    assert "the loss is nan" in failures["runs/wild/seed0"]
    assert failures["rows/wild"] == "needs runs/wild/seed0, which failed"
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| tame |" in table
    assert "wild" not in table


def test_two_workers_share_the_jobs(phantom_root, plan, tmp_path, capfd):
    out = tmp_path / "out"
    rows = [{"name": name, "stages": 1, "set": {"seed": seed}} for seed, name in enumerate("abc")]
    assert run_ablation(load_ablation(plan(rows)), phantom_root, out, [CPU, CPU]).failures == {}
    begun = started(capfd.readouterr().err)
    assert sorted(begun) == sorted({*begun})
    assert len(begun) == 6
    assert (out / "table.md").read_text().count("\n| ") == 3


def test_columns_of_designs(phantom_root, plan, tmp_path, capsys):
    """Rows that were scored for the leaderboard are scored again, not trained or registered again."""
    out, rows = tmp_path / "out", [{"name": "a", "stages": 1}, {"name": "b", "parent": "a", "set": {"seed": 1}}]
    assert run_ablation(load_ablation(plan(rows)), phantom_root, out, [CPU], ["zero"]).failures == {}
    fields = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/fields/*.nii.gz")}
    assert (out / "table.md").read_text().startswith("| | Dice in-domain % ↑ |")
    capsys.readouterr()
    for expected in (["references/zero", "rows/a", "rows/b"], []):
        assert (
            run_ablation(load_ablation(plan(rows, columns="designs")), phantom_root, out, [CPU], ["zero"]).failures
            == {}
        )
        assert started(capsys.readouterr().err) == expected
    titles = "| | SSIM ↑ | NCC ↑ | DSC ↑ | HD ↓ | HD95 ↓ | TRE mm ↓ | time s ↓ |"
    assert (out / "table.md").read_text().splitlines()[0] == titles
    assert fields == {path: path.stat().st_mtime_ns for path in out.glob("rows/*/fields/*.nii.gz")}
    tests = (out / "statistics" / "designs.csv").read_text()
    assert "time,a,b" in tests  # the times of the fields are known although these were kept
    assert "ssim,a,zero field" in tests


def test_time_is_up(phantom_root, plan, tmp_path):
    out = tmp_path / "out"
    assert run_ablation(load_ablation(plan()), phantom_root, out, [CPU], minutes=0).failures == {}
    assert not (out / "table.md").exists()
    assert run_ablation(load_ablation(plan()), phantom_root, out, [CPU]).failures == {}
    assert (out / "table.md").exists()


def test_wrong_requests(phantom_root, plan, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RequestError, match="reference ants: expected one of zero, syn, convexadam, greedy, spline"):
        run_ablation(load_ablation(plan()), phantom_root, out, [CPU], ["ants"])
    run_ablation(load_ablation(plan(ROWS[:1])), phantom_root, out, [CPU])
    changed = {**BASE, "name": "other", "seed": 4}
    changed["stages"] = [{**stage, "learning_rate": 1.0} for stage in BASE["stages"]]
    run_ablation(load_ablation(plan(ROWS[:1], changed)), phantom_root, out, [CPU])  # another seed: a run of its own
    changed["seed"] = 0
    with pytest.raises(RecipeError, match="holds a run of a different recipe"):
        run_ablation(load_ablation(plan(ROWS[:1], changed)), phantom_root, out, [CPU])


def test_what_is_wrong_as_a_whole_is_said_before_the_first_job(phantom_root, plan, tmp_path, capsys):
    late = [*ROWS[:1], {"name": "frozen", "parent": "plain", "set": {"stages.*.frozen": ["head.*"]}}]
    with pytest.raises(RecipeError, match=r"'head.\*' matches no parameter"):
        run_ablation(load_ablation(plan(late)), phantom_root, tmp_path / "out", [CPU])
    data = shutil.copytree(phantom_root, tmp_path / "data")
    next((data / "imagesVal").iterdir()).unlink()
    with pytest.raises(ManifestError, match="1 listed files do not exist"):
        run_ablation(load_ablation(plan()), data, tmp_path / "out", [CPU])
    assert started(capsys.readouterr().err) == []


def test_the_command_reports_failures_and_exits_with_1(phantom_root, plan, tmp_path, monkeypatch, lumirkit):
    rows = [{"name": "wild", "stages": 1, "set": {"stages.*.learning_rate": 1e30}}]
    monkeypatch.setenv("COLUMNS", "200")
    ended = lumirkit(*command(plan(rows), phantom_root, tmp_path / "out"))
    assert ended.returncode == 1
    assert "runs/wild/seed0" in ended.stderr
