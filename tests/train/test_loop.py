import json
import resource
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from lumirkit.base.training_log import TrainingLogError
from lumirkit.commands.main import app
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.eval.leaderboard import evaluate
from lumirkit.registration.device import Place
from lumirkit.registration.weights import WeightsError, load_weights
from lumirkit.submission.predict import predict_dataset
from lumirkit.train import step as step_module
from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train
from lumirkit.train.members import train_members
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, RecipeError, recipe_yaml
from lumirkit.train.run_folder import CheckpointError
from lumirkit.train.step import Stepper, TrainingError

CPU = Processes(torch.device("cpu"))


OF_THE_MACHINE = {"seconds", "waited_seconds", "samples_per_second", "memory_gb"}


def recipe(**changes):
    stage = {
        "epochs": 2,
        "items_per_epoch": 2,
        "learning_rate": 2e-3,
        "losses": {"ncc_window_vox": 5, "intermediate_weight": 0.01},
    }
    network = {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
    return Recipe.model_validate({"name": "tiny", "network": network, "stages": [stage, stage], **changes})


@pytest.fixture
def data(phantom_root, tmp_path):
    """A dataset folder to change."""
    return shutil.copytree(phantom_root, tmp_path / "data")


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def provenance_of(run):
    return json.loads((run / "provenance.json").read_text())


def change_an_image(data):
    images = sorted((data / "imagesTr").glob("*.nii.gz"))
    images[0].write_bytes(images[1].read_bytes())


def test_a_run_continues_on_the_images_that_it_began_with_alone(data, phantom_root, tmp_path):
    train(recipe(), data, tmp_path / "run", CPU, deadline=Deadline(0))
    begun = files_of(tmp_path / "run")
    change_an_image(data)
    with pytest.raises(RecipeError, match=r"found other training images than those that .*run was trained on"):
        train(recipe(), data, tmp_path / "run", CPU)
    assert files_of(tmp_path / "run") == begun

    shutil.copytree(phantom_root, tmp_path / "moved")
    train(recipe(), tmp_path / "moved", tmp_path / "run", CPU)
    train(recipe(), phantom_root, tmp_path / "whole", CPU)
    assert without_times(log_of(tmp_path / "run")) == without_times(log_of(tmp_path / "whole"))
    assert "earlier_images" not in provenance_of(tmp_path / "run")


def test_other_label_maps_are_other_images(data, tmp_path):
    stage = {**recipe().stages[0].model_dump(), "losses": {"ncc_window_vox": 5, "dice_weight": 1}}
    guided = recipe(stages=[stage])
    train(guided, data, tmp_path / "run", CPU, deadline=Deadline(0))
    maps = sorted((data / "labelsTr").glob("*.nii.gz"))
    maps[0].write_bytes(maps[1].read_bytes())
    with pytest.raises(RecipeError, match="found other training images"):
        train(guided, data, tmp_path / "run", CPU)


def test_a_run_does_not_start_from_one_on_other_images(data, phantom_root, tmp_path):
    first = recipe().model_copy(update={"stages": recipe().stages[:1]})
    train(first, phantom_root, tmp_path / "first", CPU)
    path = find_dataset_json(data)
    content = json.loads(path.read_text())
    content["training"] = content["training"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=r"those that .*first was trained on"):
        train(recipe(), data, tmp_path / "run", CPU, start=tmp_path / "first")
    train(recipe(), data, tmp_path / "run", CPU, start=tmp_path / "first", allow_other_images=True)
    before = provenance_of(tmp_path / "first")["images_sha256"]
    assert provenance_of(tmp_path / "run")["earlier_images"] == f"{before} until step 4"


@pytest.mark.parametrize("members", [[], ["--members", "1"]])
def test_the_command_may_go_on_with_other_images_and_provenance_says_so(data, tmp_path, members):
    (tmp_path / "tiny.yaml").write_text(recipe_yaml(recipe()))
    run = tmp_path / "out" / "seed0" if members else tmp_path / "out"

    def command(*options):
        arguments = ["train", tmp_path / "tiny.yaml", "--data", data, "--out", tmp_path / "out", "--device", "cpu"]
        return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *members, *options)])

    assert command("--minutes", "0").exit_code == 0
    before = provenance_of(run)["images_sha256"]
    change_an_image(data)
    assert isinstance(command().exception, RecipeError)
    allowed = command("--allow-other-images", "--minutes", "0")
    assert "was trained until step 1 on other images; it is continued on those of" in allowed.stderr
    again = command()
    assert (again.exit_code, "other images" in again.stderr) == (0, False), "the images are those of the last call"
    assert provenance_of(run)["images_sha256"] != before
    assert provenance_of(run)["earlier_images"] == f"{before} until step 1"


def test_a_run_of_an_earlier_version_goes_on_and_says_that_nobody_compared_its_images(data, tmp_path, capsys):
    train(recipe(), data, tmp_path, CPU, deadline=Deadline(0))
    old = provenance_of(tmp_path)
    del old["images_sha256"]
    (tmp_path / "provenance.json").write_text(json.dumps(old))
    train(recipe(), data, tmp_path, CPU, deadline=Deadline(0))
    assert "does not say on which images it was trained until step 1" in capsys.readouterr().err
    assert provenance_of(tmp_path)["earlier_images"] == "unknown until step 1"
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(RecipeError, match="found no JSON object"):
        train(recipe(), data, tmp_path, CPU)


def test_a_damaged_line_of_a_log_is_named_when_the_run_goes_on(data, tmp_path):
    train(recipe(), data, tmp_path, CPU, deadline=Deadline(0))
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"stage": 0}\n')
    with pytest.raises(TrainingLogError, match=r"log\.jsonl, line 2: found no whole number for step"):
        train(recipe(), data, tmp_path, CPU)


def log_of(run, name="log.jsonl"):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def without_times(log):
    return [{key: value for key, value in entry.items() if key not in OF_THE_MACHINE} for entry in log]


def test_training_lowers_the_loss(phantom_root, tmp_path):
    stage = {"epochs": 1, "items_per_epoch": 120, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    train(recipe(stages=[stage]), phantom_root, tmp_path, CPU)
    losses = [entry["loss"] for entry in log_of(tmp_path)]
    assert sum(losses[-24:]) / 24 < sum(losses[:24]) / 24 - 0.01  # each of the 12 ordered pairs about twice


def test_an_interrupted_run_continues_bit_for_bit(phantom_root, tmp_path, monkeypatch):
    """Cut inside the first stage, again at the start of the second one; both keep the curve and the weights."""
    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    steps = []

    def stop_after(most):
        def counted(stepper, batch):
            if len(steps) == most:
                raise KeyboardInterrupt
            steps.append(batch.step)
            return original(stepper, batch)

        return counted

    original = Stepper.take
    for most in (3, 5, 8):
        monkeypatch.setattr(Stepper, "take", stop_after(most))
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), phantom_root, tmp_path / "cut", CPU)
    monkeypatch.setattr(Stepper, "take", original)
    cut = train(recipe(), phantom_root, tmp_path / "cut", CPU)
    assert steps == [0, 1, 2, 2, 3, 0, 1, 2]
    assert without_times(log_of(tmp_path / "cut")) == without_times(log_of(tmp_path / "whole"))
    expected = load_file(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(cut).items())


def test_a_time_limit_leaves_a_run_to_continue(phantom_root, tmp_path):
    train(recipe(), phantom_root, tmp_path / "cut", CPU, deadline=Deadline(0))
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

    train(recipe(), phantom_root, tmp_path, CPU, deadline=Deadline(0))
    kept = list((tmp_path / "checkpoints").iterdir())
    original = step_module.pair_step
    monkeypatch.setattr(step_module, "pair_step", poisoned)
    with pytest.raises(TrainingError, match=r"step 2 of the stage: the loss is nan on LUMIRMRI_\d{4}_0000.nii.gz"):
        train(recipe(), phantom_root, tmp_path, CPU)
    assert list((tmp_path / "checkpoints").iterdir()) == kept


def test_a_fine_tuning_stage_with_triplets_continues_bit_for_bit(phantom_root, tmp_path):
    losses = {"ncc_window_vox": 5, "ndv_weight": 1e-5, "group_consistency_weight": 40, "intermediate_weight": 0}
    stage = {"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-3, "gradient_clip_norm": 1.0, "losses": losses}
    stage["augmentation"] = {"noise_std": [0, 0.05], "gamma": [0.7, 1.4], "inversion_probability": 0.5}
    changes = {"stages": [{**stage, "losses": {"ncc_window_vox": 5}}, {**stage, "schedule": "cosine"}]}
    whole = train(recipe(**changes), phantom_root, tmp_path / "whole", CPU)
    for _ in range(4):
        cut = train(recipe(**changes), phantom_root, tmp_path / "cut", CPU, deadline=Deadline(0))
    log = without_times(log_of(tmp_path / "cut"))
    assert log == without_times(log_of(tmp_path / "whole"))
    assert ["cycle" in entry for entry in log] == [False, False, True, True]
    expected = load_file(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(cut).items())


def test_the_running_mean_is_what_is_kept_and_continues(phantom_root, tmp_path):
    """The mean of the parameters after steps 1, 2 and 3, where a step counts half of all that follow it."""
    stage = {"epochs": 3, "items_per_epoch": 1, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    plain = recipe(stages=[stage], kept_checkpoints=3)
    train(plain, phantom_root, tmp_path / "plain", CPU)
    after = [load_file(path) for path in sorted((tmp_path / "plain" / "checkpoints").iterdir())]
    averaged = recipe(stages=[stage], ema_decay=0.5)
    for _ in range(3):
        kept = train(averaged, phantom_root, tmp_path / "averaged", CPU, Deadline(0))
    for name, tensor in load_file(kept).items():
        first, second, third = (checkpoint[f"network/{name}"] for checkpoint in after)
        torch.testing.assert_close(tensor, first / 4 + second / 4 + third / 2)


def test_a_run_starts_from_other_weights(phantom_root, tmp_path):
    stage = {"epochs": 1, "items_per_epoch": 1, "learning_rate": 1e-12, "losses": {"ncc_window_vox": 5}}
    first = train(recipe(), phantom_root, tmp_path / "first", CPU)
    second = train(recipe(stages=[stage], initial_weights=str(first)), phantom_root, tmp_path / "second", CPU)
    expected = load_file(first)
    for name, tensor in load_file(second).items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-9, rtol=0)
    other = recipe(initial_weights=str(first), network={"feature_channels": [4], "update_channels": [4]})
    with pytest.raises(WeightsError, match="Give the recipe the network of its initial weights"):
        train(other, phantom_root, tmp_path / "other", CPU)


def test_validation_without_labels_keeps_the_best_weights(phantom_root, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("imagesTr", "imagesVal", "LUMIR25_dataset.json"):
        (data / name).symlink_to(phantom_root / name)
    stage = {"epochs": 3, "items_per_epoch": 2, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    validated = recipe(stages=[stage], validation={"every_epochs": 2, "pairs_per_split": 2})
    train(validated, data, tmp_path / "run", CPU)
    entries = log_of(tmp_path / "run", "validation.jsonl")
    assert [entry["step"] for entry in entries] == [4, 6]  # every second epoch, and the end of the stage
    for entry in entries:
        assert set(entry) == {"stage", "step", "score", *(f"validation/{name}" for name in UNLABELLED)}
        assert entry["score"] == entry["validation/ncc"] > 0
    best = max(entries, key=lambda entry: entry["score"])["step"]
    _, card = load_weights(next((tmp_path / "run" / "best").iterdir()))
    assert card.steps == best
    assert len(list((tmp_path / "run" / "pictures").glob("step_*_validation.png"))) == 2
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


UNLABELLED = ("ncc", "ndv_percent", "inverse_error_vox")


def test_validation_gives_the_leaderboards_numbers(phantom_root, tmp_path):
    stage = {"epochs": 1, "items_per_epoch": 4, "learning_rate": 1e-2, "losses": {"ncc_window_vox": 5}}
    weights = train(recipe(stages=[stage], validation={"pairs_per_split": 9}), phantom_root, tmp_path / "run", CPU)
    (entry,) = log_of(tmp_path / "run", "validation.jsonl")
    dataset = phantom_root / "LUMIR25_dataset.json"
    place = Place(torch.device("cpu"))
    assert not predict_dataset(dataset, phantom_root, tmp_path / "fields", [weights], place).failures
    expected = evaluate(phantom_root, tmp_path / "fields").aggregates
    for split, key in (("in-domain", "ID_dice"), ("out-of-domain", "OOD_dice"), ("multi-modal", "MM_dice")):
        assert entry[f"{split}/dice"] == pytest.approx(expected[key]["mean"], abs=1e-9)
    assert entry["in-domain_landmarks/tre_vox"] == pytest.approx(expected["TRE_lm"]["mean"], abs=1e-9)
    assert entry["score"] == pytest.approx(np.mean([expected[f"{key}_dice"]["mean"] for key in ("ID", "OOD", "MM")]))


def test_a_full_disk_is_said_and_the_run_continues(phantom_root, tmp_path, monkeypatch):
    """A limit on the size of files stands for the end of the disk: the system refuses to write either way."""
    train(recipe(), phantom_root, tmp_path / "full", CPU, deadline=Deadline(0))
    limits, take = resource.getrlimit(resource.RLIMIT_FSIZE), Stepper.take

    def fill_the_disk(*arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        return take(*arguments)

    monkeypatch.setattr(Stepper, "take", fill_the_disk)
    try:
        with pytest.raises(CheckpointError, match=r"step 2 could not be written.*continues from step_00000001"):
            train(recipe(), phantom_root, tmp_path / "full", CPU, deadline=Deadline(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert not list(tmp_path.rglob(".partial-*"))
    train(recipe(), phantom_root, tmp_path / "full", CPU)
    train(recipe(), phantom_root, tmp_path / "whole", CPU)
    assert without_times(log_of(tmp_path / "full")) == without_times(log_of(tmp_path / "whole"))


def test_too_little_gpu_memory_says_what_to_lower(phantom_root, tmp_path, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(step_module, "pair_step", exhausted)
    with pytest.raises(TrainingError, match=r"1 samples of 32 x 40 x 34 voxels; .*recompute=true.*2.00 GiB"):
        train(recipe(), phantom_root, tmp_path, CPU)


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
    assert len(train_members(recipe(), phantom_root, tmp_path, CPU, 3, deadline=Deadline(0))) == 1
    assert not (tmp_path / "seed1").exists()


def test_a_run_that_starts_from_its_first_stages_is_the_whole_run(phantom_root, tmp_path):
    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    first = recipe(name="first", stages=recipe().model_dump()["stages"][:1])
    train(first, phantom_root, tmp_path / "first", CPU)
    continued = train(recipe(), phantom_root, tmp_path / "continued", CPU, start=tmp_path / "first")
    assert without_times(log_of(tmp_path / "continued")) == without_times(log_of(tmp_path / "whole"))
    expected, found = load_file(whole), load_file(continued)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    provenance = json.loads((tmp_path / "continued" / "provenance.json").read_text())
    assert provenance["started_from"].endswith("/first")


def test_a_run_does_not_start_from_one_that_is_not_done(phantom_root, tmp_path):
    train(recipe(name="first"), phantom_root, tmp_path / "first", CPU, Deadline(minutes=0))
    with pytest.raises(RecipeError, match=r"found a run of 1 steps; expected one that ended .* after 4 steps"):
        train(recipe(), phantom_root, tmp_path / "continued", CPU, start=tmp_path / "first")
