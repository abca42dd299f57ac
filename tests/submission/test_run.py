"""The run over many pairs: what is kept, what is made again, what stands for a failure, and what happens on the way."""

import json
import shutil
import signal
import time
from importlib.metadata import version

import forked
import nibabel as nib
import numpy as np
import pytest
import torch

from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.data_manifests.worklist import PairFiles, Shard
from lumirkit.eval.run_times import read_run_times
from lumirkit.registration import predictor
from lumirkit.registration.device import Place
from lumirkit.registration.precision import Precision
from lumirkit.registration.predictor import Method
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.volume import (
    read_affine,
    read_description,
    read_displacement,
    read_image,
    write_displacement,
    write_volume,
)
from lumirkit.registration.warp import sample
from lumirkit.submission import loading, pair_maker
from lumirkit.submission.on_error import OnError
from lumirkit.submission.predict import predict_dataset, predict_pairs
from lumirkit.submission.stamp import ZERO_FIELD
from lumirkit.submission.status import PairState, PairStatus, RunState, RunStatus

CPU = Place(torch.device("cpu"))
SHAPE = (32, 40, 34)
NAMES = ["disp_3455_3454.nii.gz", "disp_3485_3484.nii.gz", "disp_4015_4014.nii.gz", "disp_4024_4033.nii.gz"]
FIXED = "imagesVal/LUMIRMRI_3455_0000.nii.gz"


@pytest.fixture
def predict(dataset, make_weights, tmp_path):
    """Register the pairs into one folder; returns the account."""
    weights = make_weights()

    def run(on_error=OnError.SKIP, weights=weights, place=CPU):
        json_path = find_dataset_json(dataset)
        return predict_dataset(json_path, dataset, tmp_path / "out", [weights], place, on_error=on_error)

    return run


def states(status):
    return {pair.field: pair.state for pair in status.pairs}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def damage(path):
    path.write_bytes(path.read_bytes()[:2000])


def test_a_restart_remembers_how_what_it_keeps_was_made(predict, make_weights, tmp_path):
    first = predict()
    made = {pair.field: (pair.seconds, pair.device, pair.convolutions) for pair in first.pairs}
    (tmp_path / "out" / NAMES[1]).unlink()
    for _ in range(2):
        again = {pair.field: pair for pair in predict().pairs}
        kept = [name for name, pair in again.items() if pair.state is PairState.KEPT and name != NAMES[1]]
        assert len(kept) == 3
        assert all((again[n].seconds, again[n].device, again[n].convolutions) == made[n] for n in kept)
        assert again[NAMES[1]].seconds > 0
    (tmp_path / "out" / "lumirkit_status.json").write_text("{")
    assert [pair.seconds for pair in predict().pairs] == [0] * 4


def test_what_other_weights_took_is_not_remembered(tmp_path):
    pair = PairStatus(case_name="a", field="a.nii.gz", state=PairState.WRITTEN, seconds=3)
    failed = PairStatus(case_name="b", field="b.nii.gz", state=PairState.FAILED, seconds=3)
    path = tmp_path / "status.json"
    RunStatus(members=1, weights_sha256="these", pairs_asked_for=2, pairs=[pair, failed]).write(path)
    these, others = Method(1, "these"), Method(1, "others")
    refined = Method(1, "these", Refinement(steps=1))
    assert RunStatus.made_before(path, these) == {"a.nii.gz": pair}
    assert RunStatus.made_before(path, others) == RunStatus.made_before(path, refined) == {}
    assert RunStatus.made_before(tmp_path / "none", these) == {}
    RunStatus(lumirkit="0.0", members=1, weights_sha256="these", pairs_asked_for=1, pairs=[pair]).write(path)
    assert RunStatus.made_before(path, these) == {}


def test_fields_of_another_version_of_the_kit_are_made_anew(predict, tmp_path):
    predict()
    out, first = tmp_path / "out", contents(tmp_path / "out")
    field = out / NAMES[2]
    earlier = read_description(field).replace(version("lumirkit"), "0.0")
    write_displacement(field, read_displacement(field, SHAPE), read_affine(field), earlier)
    again = states(predict())
    assert [again[name] for name in NAMES] == [PairState.KEPT] * 2 + [PairState.WRITTEN, PairState.KEPT]
    assert contents(out) == first


def test_a_restart_makes_only_what_is_not_there_whole_and_of_the_same_making(predict, dataset, tmp_path, make_weights):
    assert set(states(predict()).values()) == {PairState.WRITTEN}
    out, first = tmp_path / "out", contents(tmp_path / "out")
    assert set(states(predict()).values()) == {PairState.KEPT}

    (out / NAMES[0]).unlink()
    (out / NAMES[1]).write_bytes(first[NAMES[1]][:-100])
    field = read_displacement(out / NAMES[2], SHAPE)
    write_volume(out / NAMES[2], field.astype(np.float32), np.eye(4))  # the same numbers, of unknown origin
    (out / ".partial-disp_3455_3454.nii.gz-abc.nii.gz").write_bytes(b"left by a killed run")
    again = states(predict())
    assert [again[name] for name in NAMES] == [PairState.WRITTEN] * 3 + [PairState.KEPT]
    assert contents(out) == first
    assert not list(out.glob(".*"))

    image = read_image(dataset / FIXED)
    write_volume(dataset / FIXED, np.flip(image.data, axis=0), image.affine)
    changed = states(predict())
    assert [name for name, state in changed.items() if state is PairState.WRITTEN] == [NAMES[0]]
    assert contents(out)[NAMES[0]] != first[NAMES[0]]

    assert set(states(predict(weights=make_weights(1))).values()) == {PairState.WRITTEN}
    bfloat16 = Place(CPU.device, Precision.BFLOAT16)
    assert set(states(predict(weights=make_weights(1), place=bfloat16)).values()) == {PairState.WRITTEN}


def make_rgb(path):
    """Replace an image by one of colours, as a viewer saves a screenshot."""
    colours = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colours["R"] = 7
    nib.save(nib.Nifti1Image(colours, np.eye(4)), path)


@pytest.mark.parametrize("on_error", [OnError.SKIP, OnError.ZERO])
def test_an_image_of_colours_costs_its_own_pair_alone(predict, dataset, tmp_path, on_error):
    make_rgb(dataset / FIXED)
    status = predict(on_error)
    assert status.state is RunState.DONE_BUT_FAILURES
    assert [pair.field for pair in status.failures] == [NAMES[0]]
    assert str(dataset / FIXED) in status.failures[0].reason
    made = contents(tmp_path / "out")
    if on_error is OnError.ZERO:
        assert not read_displacement(tmp_path / "out" / NAMES[0], SHAPE).any()
    assert sorted(made) == (NAMES if on_error is OnError.ZERO else NAMES[1:])


@pytest.mark.parametrize("place", ["reading", "registering", "writing"])
def test_an_error_that_nobody_foresaw_costs_one_pair_and_leaves_its_traceback(predict, monkeypatch, tmp_path, place):
    modules = {"reading": (loading, "read_pair"), "registering": (predictor, "register_pair")}
    module, name = modules.get(place, (pair_maker, "write_displacement"))
    real, calls = getattr(module, name), []

    def first_one_fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyError("what nobody foresaw")
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, first_one_fails)
    status = predict()
    assert [pair.state for pair in status.pairs] == [PairState.FAILED] + [PairState.WRITTEN] * 3
    failed = RunStatus.model_validate_json((tmp_path / "out" / "lumirkit_status.json").read_bytes()).pairs[0]
    assert "failed unforeseen (KeyError in test_run.py, line" in failed.reason
    assert NAMES[1].split("_")[1] in failed.reason, "the first pair of the list"
    assert "\n" not in failed.reason
    assert "Traceback" in failed.traceback
    assert "first_one_fails" in failed.traceback


@pytest.mark.parametrize("signal_of_the_user", [KeyboardInterrupt, SystemExit])
def test_who_ends_a_run_ends_it(predict, monkeypatch, tmp_path, signal_of_the_user):
    def end(*_):
        raise signal_of_the_user

    monkeypatch.setattr(predictor, "register_pair", end)
    with pytest.raises(signal_of_the_user):
        predict()
    assert json.loads((tmp_path / "out" / "lumirkit_status.json").read_text())["state"] == "stopped"


def test_the_account_keeps_what_it_told_of_fields_that_a_later_run_does_not_come_to(
    predict, dataset, make_weights, tmp_path, monkeypatch
):
    """Runs that were ended early, that were asked for fewer pairs, and shards, one after another."""
    times = {pair.field: pair.seconds for pair in predict().pairs}
    real = RunStatus.write

    def killed(self, path):
        real(self, path)
        raise SystemExit

    monkeypatch.setattr(RunStatus, "write", killed)
    with pytest.raises(SystemExit):
        predict()
    monkeypatch.setattr(RunStatus, "write", real)
    out, json_path = tmp_path / "out", find_dataset_json(dataset)
    assert read_run_times(out, NAMES) == times

    all_pairs = json_path.read_text()
    fewer = json.loads(all_pairs)
    fewer["validation"] = fewer["validation"][:1]
    json_path.write_text(json.dumps(fewer))
    assert len(predict().pairs) == 1
    assert read_run_times(out, NAMES) == times
    json_path.write_text(all_pairs)
    assert {pair.field: pair.seconds for pair in predict().pairs} == times

    part = predict_dataset(json_path, dataset, out, [make_weights()], CPU, Shard(1, 2))
    assert {pair.seconds for pair in part.pairs} <= set(times.values())
    (out / "lumirkit_status.json").unlink()
    again = {pair.field: pair.seconds for pair in predict().pairs}
    assert all(again[pair.field] == times[pair.field] for pair in part.pairs)

    (out / NAMES[3]).unlink()
    json_path.write_text(json.dumps(fewer))
    assert NAMES[3] not in {pair.field for pair in predict().earlier}


def test_a_field_that_is_there_is_in_the_account_before_the_next_pair_is_done(predict, monkeypatch, tmp_path):
    """So a run that is killed at any time knows how long its fields took."""
    real, seen = predictor.register_pair, []

    def look_first(*arguments):
        out = tmp_path / "out"
        deadline = time.monotonic() + 20
        while len(list(out.glob("disp*"))) < len(seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        seen.append(len(json.loads((out / "lumirkit_status.json").read_text())["pairs"]) if seen else 0)
        return real(*arguments)

    monkeypatch.setattr(predictor, "register_pair", look_first)
    predict()
    assert seen == [0, 1, 2, 3]


def test_what_a_failure_means_is_the_callers_choice(predict, dataset, tmp_path):
    predict()
    damage(dataset / FIXED)
    out = tmp_path / "out"

    skipped = predict()
    assert skipped.state is RunState.DONE_BUT_FAILURES
    assert states(skipped)[NAMES[0]] is PairState.FAILED
    assert sorted(contents(out)) == NAMES[1:], "a field of the image as it was must not stand for it"

    zeroed = predict(OnError.ZERO)
    assert zeroed.state is RunState.DONE_BUT_FAILURES
    assert states(zeroed)[NAMES[0]] is PairState.ZERO
    assert not read_displacement(out / NAMES[0], SHAPE).any()
    assert read_description(out / NAMES[0]) == ZERO_FIELD
    assert predict(OnError.ZERO).failures, "a zero field is no result that a restart keeps"

    shutil.rmtree(out)
    stopped = predict(OnError.STOP)
    assert stopped.state is RunState.STOPPED
    order = [pair.field for pair in stopped.pairs]
    assert order[-1] == NAMES[0]
    assert len(order) < len(NAMES)
    assert sorted(contents(out)) == sorted(order[:-1])


def test_the_wait_for_the_compiler_is_no_time_of_the_first_pair(predict, monkeypatch):
    waits = [3.0]
    monkeypatch.setattr(predictor.Predictor, "wait_for_kernels", lambda self: time.sleep(waits.pop() if waits else 0))
    assert max(pair.seconds for pair in predict().pairs) < 3
    assert not waits


def test_the_account_says_what_every_pair_took(predict, tmp_path):
    returned = predict()
    written = RunStatus.model_validate_json((tmp_path / "out" / "lumirkit_status.json").read_bytes())
    assert written == returned
    assert written.state is RunState.DONE
    assert written.members == 1
    assert len(written.pairs) == written.pairs_asked_for == 4
    for pair in written.pairs:
        assert 0 < pair.seconds < 100
        assert 0.05 < pair.peak_memory_gb <= written.peak_process_memory_gb
        assert (pair.device, pair.convolutions, pair.warnings, pair.reason) == ("cpu", "float32", [], "")


def test_short_memory_moves_to_what_needs_less_and_says_so(predict, monkeypatch, tmp_path):
    """The GPU is a stand-in here: a place that is too small twice, in float and in bfloat16, and then the CPU."""
    tried = []
    real = predictor.register_pair
    small = Place(torch.device("cuda"))

    def register_pair(network, fixed, moving):
        tried.append((network.members[0].precision, next(network.parameters()).device.type))
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")
        return real(network, fixed, moving)

    load = predictor.load_ensemble
    monkeypatch.setattr(predictor, "register_pair", register_pair)
    monkeypatch.setattr(predictor, "load_ensemble", lambda paths, device, precision: load(paths, "cpu", precision))
    status = predict(place=small)
    assert [precision for precision, _ in tried[:3]] == ["float32", "bfloat16", "float32"]
    assert len(tried) == 6, "the other pairs start where the first one ended"
    assert not status.failures
    first, *others = status.pairs
    assert first.device == "cpu"
    assert (
        "cuda in float32 has too little memory (CUDA out of memory.); went on with cuda in bfloat16" in first.warnings
    )
    assert "went on with cpu in float32" in first.warnings[1]
    assert not any(pair.warnings for pair in others)


def test_a_cpu_without_memory_fails_the_pair(predict, monkeypatch):
    def register_pair(network, fixed, moving):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(predictor, "register_pair", register_pair)
    failures = predict().failures
    assert {pair.reason for pair in failures} == {"no memory"}
    assert len(failures) == 4


def test_masks_take_away_what_is_not_brain(dataset, make_weights, tmp_path):
    """A bright skull outside the masks changes nothing."""
    clean = [read_image(dataset / "imagesVal" / f"LUMIRMRI_{number}_0000.nii.gz") for number in (3455, 3454)]
    files = {}
    for name, image in zip(("fixed", "moving"), clean, strict=True):
        skull = np.where(image.data > 0, image.data, 200).astype(np.float32)
        for kind, data in (("clean", image.data), ("skull", skull), ("mask", (image.data > 0).astype(np.uint8))):
            files[name, kind] = tmp_path / f"{name}_{kind}.nii.gz"
            write_volume(files[name, kind], data, image.affine)
    masks = (files["fixed", "mask"], files["moving", "mask"])
    fields = []
    for kind in ("clean", "skull"):
        out = tmp_path / f"{kind}.nii.gz"
        pair = PairFiles("pair", files["fixed", kind], files["moving", kind], out, masks=masks)
        assert not predict_pairs([pair], [make_weights()], CPU, tmp_path / "status.json").failures
        fields.append(read_displacement(out, SHAPE))
    np.testing.assert_array_equal(*fields)


def test_fields_with_nan_are_not_written(predict, monkeypatch, tmp_path):
    monkeypatch.setattr(predictor, "register_pair", lambda *_: np.full((*SHAPE, 3), np.nan, np.float32))
    status = predict()
    assert len(status.failures) == 4
    assert all("NaN or inf" in pair.reason for pair in status.failures)
    assert not contents(tmp_path / "out")


@pytest.fixture
def long_run(dataset, make_weights, tmp_path):
    """Start the container's command as a process of its own on many pairs; returns it and the folder of its fields."""
    json_path = find_dataset_json(dataset)
    content = json.loads(json_path.read_text())
    images = sorted(
        {image for pair in content["validation"] for image in pair.values() if image.endswith("0000.nii.gz")}
    )
    content["validation"] = [{"fixed": a, "moving": b} for a in images for b in images if a != b]
    json_path.write_text(json.dumps(content))
    weights = make_weights()

    def start(out):
        return forked.container(tmp_path / "said", "--dataset-json", json_path, "--output", out, "--weights", weights)

    return start, len(content["validation"])


def wait_for_fields(run, out, count):
    run.wait_until(lambda: len(list(out.glob("*.nii.gz"))) >= count)


def test_sigterm_leaves_whole_fields_and_an_account(long_run, tmp_path):
    start, pairs = long_run
    out = tmp_path / "out"
    run = start(out)
    wait_for_fields(run, out, 2)
    run.send(signal.SIGTERM)
    assert run.wait() == 143, run.said
    assert not list(out.glob(".*"))
    fields = list(out.glob("*.nii.gz"))
    assert 2 <= len(fields) < pairs
    for field in fields:
        read_displacement(field, SHAPE)
    assert json.loads((out / "lumirkit_status.json").read_text())["state"] == "stopped"


def test_killed_ten_times_it_ends_with_the_same_bytes(long_run, tmp_path):
    start, pairs = long_run
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).wait() == 0
    rng = np.random.default_rng(0)
    for number in range(10):
        run = start(killed)
        wait_for_fields(run, killed, min(1 + number, pairs - 1))
        time.sleep(rng.uniform(0, 0.3))
        run.kill()
    assert start(killed).wait() == 0
    assert contents(killed) == contents(undisturbed)
    assert len(contents(killed)) == pairs
    assert {path.name for path in killed.iterdir()} == {path.name for path in undisturbed.iterdir()}


def test_the_field_warps_the_moving_image_where_scipy_would(dataset, predict, tmp_path):
    """The written numbers are what `scipy.ndimage.map_coordinates` takes: voxels, array axes, pull-back."""
    from scipy import ndimage

    predict()
    disp_vox = read_displacement(tmp_path / "out" / NAMES[0], SHAPE)
    moving = read_image(dataset / "imagesVal/LUMIRMRI_3454_0000.nii.gz").data
    grid = np.indices(SHAPE) + np.moveaxis(disp_vox, -1, 0)
    by_scipy = ndimage.map_coordinates(moving, grid, order=1, mode="nearest")
    field = torch.from_numpy(np.moveaxis(disp_vox, -1, 0).astype(np.float32))[None]
    ours = sample(torch.from_numpy(moving)[None, None], field)[0, 0].numpy()
    inside = ((grid > 0) & (grid < np.array(SHAPE)[:, None, None, None] - 1)).all(axis=0)
    np.testing.assert_allclose(ours[inside], by_scipy[inside], atol=1e-2)
