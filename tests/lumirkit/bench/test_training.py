"""`lumirkit bench training`: a real run of some steps, what is told of it, and what it leaves."""

import json

import pytest

from lumirkit.bench.training import TrainingBench

SMALL = ["--set", "network.feature_channels=[4,4]", "--set", "network.update_channels=[4,4]"]


def test_some_steps_of_every_stage_on_a_dataset(lumirkit, phantom_root, tmp_path):
    ended = lumirkit(
        "bench", "training", "--recipe", "lite", *SMALL, "--data", phantom_root, "--steps", 3, "--out", tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.json", "training.md"]
    assert (tmp_path / "training.md").read_text() == ended.stdout
    bench = TrainingBench.model_validate(json.loads((tmp_path / "training.json").read_text()))
    assert [stage.items for stage in bench.stages] == ["1 pair", "1 triplet"]
    assert str(phantom_root) in ended.stdout
    for stage in bench.stages:
        assert 0 < stage.seconds.min <= stage.seconds.median <= stage.seconds.max
        assert 0 <= stage.waited_percent < 100
        assert stage.samples_per_second == pytest.approx(1 / stage.seconds.median, rel=0.5)
        assert stage.peak_memory_gb > 0.1


def test_images_are_made_where_none_are_given(lumirkit, tmp_path):
    ended = lumirkit(
        "bench", "training", "--recipe", "lite", *SMALL, "--size", "32x40x34", "--steps", 2, "--out", tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert "images of 32 x 40 x 34" in ended.stdout


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--steps", "1", "equal to 2"), ("--recipe", "lumir26", "no such recipe"), ("--data", "none", "none")],
)
def test_what_cannot_be_done_is_said(lumirkit, tmp_path, option, value, said):
    ended = lumirkit("bench", "training", option, value, "--out", tmp_path / "out")
    assert ended.returncode == 2
    assert said in ended.stderr
