"""Several processes compute what one computes: real ones, some started by torchrun, that talk through gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from one_step import take_one_step, take_shared_steps

from lumirkit.train.processes import Processes, _announced
from lumirkit.train.recipe import RecipeError, Stage
from lumirkit.train.sharing import Share, share_of_batch

ROOT = Path(__file__).parents[2]
ALONE = Processes(torch.device("cpu"))
TRIPLETS = {"ndv_weight": 1e-3, "group_consistency_weight": 40}


def one_step(**changes):
    losses = {"ncc_window_vox": 5, **changes.pop("losses", {})}
    return Stage(epochs=1, items_per_epoch=2, learning_rate=1e-3, losses=losses, **changes)


def shared_step(count, stage, data, folder):
    """What several processes make of a step together."""
    processes = forked.team(folder, count, take_shared_steps, data, folder / "steps.pt", [stage])
    assert [process.wait() for process in processes] == [0] * count, processes[0].said
    (step,) = torch.load(folder / "steps.pt")
    return step


def assert_close(found, expected):
    (found_gradients, found_terms), (expected_gradients, expected_terms) = found, expected
    assert found_terms == pytest.approx(expected_terms, rel=1e-6)
    largest = max(gradient.abs().max() for gradient in expected_gradients.values())
    assert largest > 1e-4
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-6, atol=1e-6 * float(largest), msg=name)


def test_two_processes_share_a_batch(phantom_root, tmp_path):
    noise = {"augmentation": {"noise_std": [0, 0.05], "gamma": [0.7, 1.4]}}
    one = take_one_step(phantom_root, one_step(batch_size=2, **noise), ALONE)
    assert_close(shared_step(2, one_step(batch_size=2, **noise), phantom_root, tmp_path), one)
    _, terms = take_one_step(phantom_root, one_step(batch_size=1, **noise), ALONE)
    assert terms != pytest.approx(one[1], rel=1e-3)


def test_three_processes_share_a_triplet(phantom_root, tmp_path):
    one = take_one_step(phantom_root, one_step(losses=TRIPLETS), ALONE)
    assert_close(shared_step(3, one_step(losses=TRIPLETS), phantom_root, tmp_path), one)
    assert one[1]["cycle"] > 1e-5


def stage(batch_size, triplets=False):
    return Stage(
        epochs=1, items_per_epoch=1, batch_size=batch_size, learning_rate=1, losses=TRIPLETS if triplets else {}
    )


@pytest.mark.parametrize(
    ("batch_size", "triplets", "size", "shares"),
    [
        (4, False, 1, [Share(range(4))]),
        (4, False, 2, [Share(range(0, 2)), Share(range(2, 4))]),
        (3, True, 3, [Share(range(n, n + 1)) for n in range(3)]),
        (1, True, 3, [Share(range(1), pair) for pair in range(3)]),
        (2, True, 6, [Share(range(trio, trio + 1), pair) for trio in range(2) for pair in range(3)]),
        (4, True, 6, [Share(range(2 * trio, 2 * trio + 2), pair) for trio in range(2) for pair in range(3)]),
    ],
)
def test_a_batch_is_shared_without_rest(batch_size, triplets, size, shares):
    cpu = torch.device("cpu")
    found = [share_of_batch(stage(batch_size, triplets), 0, Processes(cpu, rank, size)) for rank in range(size)]
    assert found == shares


@pytest.mark.parametrize(
    ("batch_size", "triplets", "size", "message"),
    [
        (1, False, 3, "stages.1.batch_size: found 1, which 3 processes cannot share evenly; expected a multiple of 3"),
        (1, True, 6, "expected a multiple of 6, or of 2 to spread each triplet"),
        (3, True, 4, "expected a multiple of 4. Set"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(batch_size, triplets, size, message):
    with pytest.raises(RecipeError, match=message):
        share_of_batch(stage(batch_size, triplets), 1, Processes(torch.device("cpu"), 0, size))


def test_slurm_alone_is_enough():
    step = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "41234"}
    joined = _announced(step | {"SLURM_STEP_NODELIST": "gpu[07-09,12],big"})
    assert joined["RANK"] == "5" and joined["WORLD_SIZE"] == "8" and joined["LOCAL_RANK"] == "1"
    assert joined["MASTER_ADDR"] == "gpu07"
    assert _announced(step | {"SLURM_STEP_NODELIST": "node3,node4"})["MASTER_ADDR"] == "node3"
    # In a batch script, outside of srun, the job's variables are set but nobody else was started.
    assert _announced({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "41234"}) is None


RECIPE = """
name: tiny
network: {resolution_vox: 2, feature_channels: [4, 4], update_channels: [4, 4]}
stages:
  - {epochs: 2, items_per_epoch: 3, batch_size: 3, learning_rate: 1.0e-3, losses: {ncc_window_vox: 5}}
  - {epochs: 1, items_per_epoch: 2, learning_rate: 1.0e-4,
     losses: {ncc_window_vox: 5, ndv_weight: 1.0e-5, group_consistency_weight: 40}}
validation: {pairs_per_split: 1}
"""


def log_of(run, name="log.jsonl"):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def without_times(log):
    machine = {"seconds", "waited_seconds", "samples_per_second", "memory_gb"}
    return [{key: value for key, value in entry.items() if key not in machine} for entry in log]


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path / "tiny.yaml"


def training(recipe, data, out):
    return ["train", str(recipe), "--data", str(data), "--out", str(out), "--device", "cpu"]


def test_a_whole_run_of_three_processes_is_that_of_one(recipe, phantom_root, tmp_path, lumirkit):
    """Both stages through the command: a shared batch, then shared triplets; validation shared too."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m", "lumirkit"]
    done = {
        1: lumirkit(*training(recipe, phantom_root, tmp_path / "run1")),
        3: subprocess.run(
            [*torchrun, *training(recipe, phantom_root, tmp_path / "run3")],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        ),
    }
    for count, result in done.items():
        assert result.returncode == 0, result.stderr
        processes = "3 processes" if count == 3 else "1 process"
        assert f"stage 1 of 2: 2 epochs of 3 pairs in batches of 3 shared by {processes} (cpu)" in result.stderr
        assert result.stdout.count("weights: ") == 1
    one, three = (log_of(tmp_path / f"run{count}") for count in (1, 3))
    for name in ("loss", "ncc", "diffusion", "learning_rate"):
        assert [entry[name] for entry in three] == pytest.approx([entry[name] for entry in one], rel=2e-3)
    assert [entry["step"] for entry in three] == [1, 2, 3, 4]
    one, three = (log_of(tmp_path / f"run{count}", "validation.jsonl") for count in (1, 3))
    assert [entry["step"] for entry in three] == [entry["step"] for entry in one] == [1, 2, 4]
    assert three[0].keys() == one[0].keys()
    assert three[-1]["in-domain/dice"] == pytest.approx(one[-1]["in-domain/dice"], abs=2e-3)
    one, three = (json.loads((tmp_path / f"run{count}" / "provenance.json").read_text()) for count in (1, 3))
    assert three["processes"] == "3"
    assert three["images_sha256"] == one["images_sha256"]


def test_a_damaged_image_is_named_by_every_process(recipe, phantom_root, tmp_path):
    data = shutil.copytree(phantom_root, tmp_path / "data")
    damaged = sorted((data / "imagesTr").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:500])
    for process in forked.team(tmp_path, 3, forked.command, *training(recipe, data, tmp_path / "run")):
        assert process.wait() == 2
        assert "1 training image cannot be used" in process.said and damaged.name in process.said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_killed_run_continues_as_if_nothing_had_happened(recipe, phantom_root, tmp_path, lumirkit):
    """kill -9 at several moments, whatever the run does then; log, validations and weights are those of a whole run."""
    whole, cut = (training(recipe, phantom_root, tmp_path / name) for name in ("whole", "cut"))
    assert lumirkit(*whole).returncode == 0
    ended = []
    for moment in ("stage 1 of 2", "validation after step 1", "stage 2 of 2:", "validation after step 4"):
        process = forked.lumirkit(tmp_path / "said", *cut)
        process.wait_until(lambda moment=moment, process=process: moment in process.said)
        ended.append(process.kill())
    assert ended[:3] == [-signal.SIGKILL] * 3  # at the last moment it may just have ended
    assert lumirkit(*cut).returncode == 0
    assert without_times(log_of(tmp_path / "cut")) == without_times(log_of(tmp_path / "whole"))
    assert log_of(tmp_path / "cut", "validation.jsonl") == log_of(tmp_path / "whole", "validation.jsonl")
    for folder in ("weights", "best"):
        cut, uncut = ((tmp_path / run / folder / "tiny_seed0.safetensors").read_bytes() for run in ("cut", "whole"))
        assert cut == uncut
    assert not list((tmp_path / "cut").rglob(".partial-*"))


def test_a_second_command_in_the_same_folder_ends_at_once(recipe, phantom_root, tmp_path):
    """Each of its processes says why; kill -9 of the first command frees the folder."""
    recipe.write_text(RECIPE.replace("epochs: 2, items_per_epoch: 3", "epochs: 1, items_per_epoch: 3000"))
    command = training(recipe, phantom_root, tmp_path / "run")
    first = forked.lumirkit(tmp_path / "said", *command)
    first.wait_until(lambda: "stage 1 of 2 " in first.said)
    for second in forked.team(tmp_path, 3, forked.command, *command):
        assert second.wait() == 2
        assert f"{tmp_path / 'run'}: found another process that trains in this folder" in second.said
    assert first.kill() == -signal.SIGKILL
    third = forked.lumirkit(tmp_path / "said", *command)
    third.wait_until(lambda: "stage 1 of 2 " in third.said)
    third.kill()


def test_an_interrupted_run_says_what_is_saved_and_the_next_one_from_where_it_goes_on(recipe, phantom_root, tmp_path):
    recipe.write_text(RECIPE.replace("epochs: 2, items_per_epoch: 3", "epochs: 1000, items_per_epoch: 3"))
    command = training(recipe, phantom_root, tmp_path / "run")
    process = forked.lumirkit(tmp_path / "said", *command)
    process.wait_until(lambda: list((tmp_path / "run" / "checkpoints").glob("step_*")))
    process.send(signal.SIGINT)
    assert process.wait() == 130
    step = int(max((tmp_path / "run" / "checkpoints").iterdir()).stem.removeprefix("step_"))
    said = f"{tmp_path / 'run'}: interrupted; saved up to step {step} of 1002. The same command goes on from there."
    assert said in process.said
    process = forked.lumirkit(tmp_path / "said", *command)
    process.wait_until(lambda: "stage 1 of 2 " in process.said)
    process.kill()
    assert f"{tmp_path / 'run'}: goes on after step {step} of 1002" in process.said


def test_termination_means_a_checkpoint(recipe, phantom_root, tmp_path):
    recipe.write_text(RECIPE.replace("epochs: 2, items_per_epoch: 3", "epochs: 1, items_per_epoch: 3000"))
    process = forked.lumirkit(tmp_path / "said", *training(recipe, phantom_root, tmp_path / "run"))
    process.wait_until(lambda: "stage 1 of 2 " in process.said)
    process.send(signal.SIGTERM)
    assert process.wait() == 0, process.said
    steps = len(log_of(tmp_path / "run"))
    assert 0 < steps < 1000
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step_{steps:08d}.safetensors"]
