import json

import pytest
import torch
from safetensors.torch import load_file

from train import loop
from train.loop import TrainingError, train
from train.members import train_members
from train.recipe import Recipe, RecipeError

CPU = torch.device("cpu")


def recipe(**changes):
    stage = {
        "epochs": 2,
        "items_per_epoch": 2,
        "learning_rate": 2e-3,
        "losses": {"ncc_window_vox": 5, "intermediate_weight": 0.01},
    }
    network = {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
    return Recipe.model_validate({"name": "tiny", "network": network, "stages": [stage, stage], **changes})


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def without_times(log):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in log]


def test_training_lowers_the_loss(phantom_root, tmp_path):
    stage = {"epochs": 1, "items_per_epoch": 120, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    train(recipe(stages=[stage]), phantom_root, tmp_path, CPU)
    losses = [entry["loss"] for entry in log_of(tmp_path)]
    assert sum(losses[-24:]) / 24 < sum(losses[:24]) / 24 - 0.01  # each of the 12 ordered pairs about twice


def test_an_interrupted_run_continues_bit_for_bit(phantom_root, tmp_path, monkeypatch):
    """Cut inside the first stage, again at the start of the second one; both keep the curve and the weights."""
    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    steps = []

    def stop_at(step):
        def counted(*arguments):
            if arguments[-1] > step:
                raise KeyboardInterrupt
            steps.append(arguments[-1])
            return original(*arguments)

        return counted

    original = loop._step
    for step in (3, 4, 7):
        monkeypatch.setattr(loop, "_step", stop_at(step))
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), phantom_root, tmp_path / "cut", CPU)
    monkeypatch.setattr(loop, "_step", original)
    cut = train(recipe(), phantom_root, tmp_path / "cut", CPU)
    assert steps == [1, 2, 3, 3, 4, 5, 6, 7]
    assert without_times(log_of(tmp_path / "cut")) == without_times(log_of(tmp_path / "whole"))
    expected = load_file(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(cut).items())


def test_a_time_limit_leaves_a_run_to_continue(phantom_root, tmp_path):
    train(recipe(), phantom_root, tmp_path / "cut", CPU, minutes=0)
    assert len(log_of(tmp_path / "cut")) == 1
    train(recipe(), phantom_root, tmp_path / "cut", CPU)
    train(recipe(), phantom_root, tmp_path / "whole", CPU)
    assert without_times(log_of(tmp_path / "cut")) == without_times(log_of(tmp_path / "whole"))


def test_a_finished_run_is_left_alone(phantom_root, tmp_path):
    weights = train(recipe(), phantom_root, tmp_path, CPU)
    before = weights.stat().st_mtime_ns
    assert train(recipe(), phantom_root, tmp_path, CPU) == weights
    assert weights.stat().st_mtime_ns == before


def test_a_new_stage_starts_with_its_own_learning_rate(phantom_root, tmp_path):
    stages = [
        {"epochs": 1, "items_per_epoch": 1, "learning_rate": rate, "losses": {"ncc_window_vox": 5}}
        for rate in (1e-3, 1e-9)
    ]
    weights = train(recipe(stages=stages), phantom_root, tmp_path / "two", CPU)
    only_first = train(recipe(stages=stages[:1]), phantom_root, tmp_path / "one", CPU)
    expected = load_file(only_first)
    for name, tensor in load_file(weights).items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-8, rtol=0)
    assert [entry["learning_rate"] for entry in log_of(tmp_path / "two")] == [1e-3, 1e-9]


def test_two_checkpoints_are_kept(phantom_root, tmp_path):
    train(recipe(), phantom_root, tmp_path, CPU)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step_00000006.safetensors", "step_00000008.safetensors"]


def test_a_folder_of_another_recipe_is_refused(phantom_root, tmp_path):
    train(recipe(), phantom_root, tmp_path, CPU)
    with pytest.raises(RecipeError, match="different recipe"):
        train(recipe(seed=1), phantom_root, tmp_path, CPU)


def test_a_nan_loss_stops_training_and_keeps_the_checkpoint(phantom_root, tmp_path, monkeypatch):
    def poisoned(*arguments):
        return original(*arguments) | {"loss": float("nan")}

    train(recipe(), phantom_root, tmp_path, CPU, minutes=0)
    kept = list((tmp_path / "checkpoints").iterdir())
    original = loop.pair_step
    monkeypatch.setattr(loop, "pair_step", poisoned)
    with pytest.raises(TrainingError, match=r"step 2: the loss is nan on LUMIRMRI_\d{4}_0000.nii.gz, LUMIR"):
        train(recipe(), phantom_root, tmp_path, CPU)
    assert list((tmp_path / "checkpoints").iterdir()) == kept


def test_a_fine_tuning_stage_with_triplets_continues_bit_for_bit(phantom_root, tmp_path):
    losses = {"ncc_window_vox": 5, "ndv_weight": 1e-5, "group_consistency_weight": 40, "intermediate_weight": 0}
    stage = {"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-3, "gradient_clip_norm": 1.0, "losses": losses}
    stage["augmentation"] = {"noise_std": [0, 0.05], "gamma": [0.7, 1.4], "inversion_probability": 0.5}
    changes = {"stages": [{**stage, "losses": {"ncc_window_vox": 5}}, {**stage, "schedule": "cosine"}]}
    whole = train(recipe(**changes), phantom_root, tmp_path / "whole", CPU)
    for _ in range(4):
        cut = train(recipe(**changes), phantom_root, tmp_path / "cut", CPU, minutes=0)
    log = without_times(log_of(tmp_path / "cut"))
    assert log == without_times(log_of(tmp_path / "whole"))
    assert ["cycle" in entry for entry in log] == [False, False, True, True]
    expected = load_file(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(cut).items())


def test_frozen_parameters_stay_as_they_are(phantom_root, tmp_path):
    stage = {"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    first = train(recipe(stages=[stage]), phantom_root, tmp_path / "one", CPU)
    both = train(recipe(stages=[stage, {**stage, "frozen": ["extractor.*"]}]), phantom_root, tmp_path / "two", CPU)
    before, after = load_file(first), load_file(both)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith("extractor."), name


@pytest.mark.parametrize(
    ("frozen", "message"), [(["extracter.*"], "matches no parameter"), (["*"], "nothing is left to train")]
)
def test_impossible_freezing_is_refused_before_anything_starts(phantom_root, tmp_path, frozen, message):
    stage = {"epochs": 1, "items_per_epoch": 1, "learning_rate": 1e-2}
    with pytest.raises(RecipeError, match=message):
        train(recipe(stages=[stage, {**stage, "frozen": frozen}]), phantom_root, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_members_are_runs_of_their_own_and_finished_ones_are_left_alone(phantom_root, tmp_path):
    small = recipe(seed=3)
    first = train_members(small, phantom_root, tmp_path / "members", CPU, 2)
    assert [path.parent.parent.name for path in first] == ["seed3", "seed4"]
    alone = train(recipe(seed=4), phantom_root, tmp_path / "alone", CPU)
    three, four, expected = (load_file(path) for path in (*first, alone))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in four.items())
    assert not all(torch.equal(tensor, three[name]) for name, tensor in four.items())
    before = [path.stat().st_mtime_ns for path in first]
    assert train_members(small, phantom_root, tmp_path / "members", CPU, 2) == first
    assert [path.stat().st_mtime_ns for path in first] == before


def test_the_time_of_members_is_counted_over_all(phantom_root, tmp_path):
    assert len(train_members(recipe(), phantom_root, tmp_path, CPU, 3, minutes=0)) == 1
    assert not (tmp_path / "seed1").exists()
