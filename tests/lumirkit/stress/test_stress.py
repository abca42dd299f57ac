"""`lumirkit stress` as users run it, on phantoms."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.measures import find_measure
from lumirkit.eval.stress.disturbances import DISTURBANCES
from lumirkit.eval.stress.table import UNDISTURBED
from lumirkit.stress.pairs import LabelledPair, list_labelled_cases

KEYS = ["method", "disturbance", "strength", "split", "pair"]


def kept(out):
    """When each kept result was written, by its file."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "kept").iterdir()}


def scores(out):
    return pd.read_csv(out / "pairs.csv").set_index(KEYS)[["dice_percent", "ndv_percent"]]


@pytest.fixture
def request_(phantom_root, make_weights, tmp_path):
    """The arguments of a small stress test: one network, two disturbances, one of them with two strengths."""
    return [
        "stress", "--ground-truth", phantom_root, "--out", tmp_path / "out", "--weights", f"net={make_weights()}",
        "--disturbance", "noise=3,9", "--disturbance", "rotation=8", "--convolutions", "float32", "--device", "cpu",
    ]  # fmt: skip


def test_undisturbed_pairs_score_as_evaluate_says(request_, lumirkit, phantom_root, make_weights, tmp_path):
    assert lumirkit(*request_, "--reference", "zero").returncode == 0
    fields = tmp_path / "fields"
    predict = ["predict", "--dataset", phantom_root, "--weights", make_weights(), "--out", fields]
    assert lumirkit(*predict, "--convolutions", "float32", "--device", "cpu").returncode == 0
    found = scores(tmp_path / "out").xs(UNDISTURBED, level="disturbance").droplevel("strength")
    for method, folder in (("net", fields), ("zero", None)):
        scored = [
            (case, result) for case, result in evaluate(phantom_root, folder).scored if "landmarks" not in case.split
        ]
        assert len(scored) == 3
        for case, result in scored:
            row = found.loc[method, case.split, case.name]
            assert row["dice_percent"] == pytest.approx(100 * find_measure(result.measures, "dice", ""), abs=1e-9)
            assert row["ndv_percent"] == pytest.approx(find_measure(result.measures, "ndv_percent", ""), abs=1e-12)


def test_what_is_written(request_, lumirkit, tmp_path):
    finished = lumirkit(*request_, "--refine", "1", "--reference", "zero", "--pairs", "1", "--split", "in-domain")
    assert finished.returncode == 0, finished.stderr
    out = tmp_path / "out"
    means = pd.read_csv(out / "stress.csv", keep_default_na=False)
    methods = ["net", "net, refine 1", "zero"]
    settings = [(UNDISTURBED, 0), ("noise", 3), ("noise", 9), ("rotation", 8)]
    assert [*means[["disturbance", "strength", "method"]].itertuples(index=False, name=None)] == [
        (*setting, method) for setting in settings for method in methods
    ]
    assert (means["pairs"] == 1).all()
    zero = means[means["method"] == "zero"].set_index("disturbance")["dice_percent"]
    assert (zero["noise"] == zero[UNDISTURBED]).all()  # noise moves no label
    assert zero["rotation"] < zero[UNDISTURBED] - 1
    assert "| noise | 9 % of 255 |" in (out / "stress.md").read_text()
    assert "| noise | 9 % of 255 |" in finished.stdout
    page = (out / "stress.html").read_text()
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:image/|#)", page)
    assert page.count('class="chart"') == 2
    assert page.count("<img ") == 3 + 2  # each disturbance with the undisturbed image before it
    assert "in both images" not in page


def test_every_disturbance_can_be_registered(request_, lumirkit, tmp_path):
    weakest = [f"{name}={each.strengths[0]}" for name, each in DISTURBANCES.items()]
    asked = [text for name in weakest for text in ("--disturbance", name)]
    request_ = [*request_[:5], "--weights", "none", "--reference", "zero", "--split", "in-domain", *asked]
    finished = lumirkit(*request_)
    assert finished.returncode == 0, finished.stderr
    means = pd.read_csv(tmp_path / "out" / "stress.csv", keep_default_na=False)
    assert list(dict.fromkeys(means["disturbance"])) == [UNDISTURBED, *DISTURBANCES]
    assert len(means) == 1 + len(DISTURBANCES)
    unmoved = means[~means["disturbance"].isin(["rotation", "translation", "scale"])]
    assert unmoved["dice_percent"].nunique() == 1  # the truth stays


def test_what_is_done_is_not_done_again(request_, lumirkit, make_weights, tmp_path):
    request_ = [*request_, "--split", "in-domain"]
    out = tmp_path / "out"
    assert lumirkit(*request_).returncode == 0
    first, page = kept(out), (out / "stress.html").read_bytes()
    assert len(first) == 4
    assert lumirkit(*request_).returncode == 0
    assert kept(out) == first
    assert (out / "stress.html").read_bytes() == page
    assert lumirkit(*request_, "--disturbance", "gamma=1.5").returncode == 0
    assert len(kept(out)) == 5
    assert kept(out).items() >= first.items()
    assert lumirkit(*request_, "--seed", "1").returncode == 0
    assert len(kept(out)) == 5 + 3  # the undisturbed pair is the same
    other = make_weights(seed=1)
    assert lumirkit(*request_, "--weights", f"other={other}").returncode == 0
    assert len(kept(out)) == 8 + 4


def test_a_changed_image_is_registered_again_and_a_damaged_result_too(request_, lumirkit, phantom_root, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(phantom_root, data)
    request_[2] = data
    request_ += ["--split", "in-domain"]
    assert lumirkit(*request_).returncode == 0
    first = kept(out)
    damaged = sorted(first)[0]
    (out / "kept" / damaged).write_text('{"dice_percent": NaN')
    assert lumirkit(*request_).returncode == 0
    assert [name for name, when in kept(out).items() if when != first[name]] == [damaged]
    image = data / "imagesVal" / "LUMIRMRI_3454_0000.nii.gz"  # moving
    found = nib.load(image)
    nib.save(nib.Nifti1Image(np.clip(np.asarray(found.dataobj), 0, 200).astype(np.uint8), found.affine), image)
    assert lumirkit(*request_).returncode == 0
    assert len(kept(out)) == 8


def test_after_kill_9_the_same_command_goes_on(request_, lumirkit, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "lumirkit", *map(str, request_)], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not any((out / "kept").glob("[!.]*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = {name: when for name, when in kept(out).items() if not name.startswith(".")}
    assert 0 < len(before) < 12
    assert not (out / "stress.csv").exists()
    assert lumirkit(*request_).returncode == 0
    after = kept(out)
    assert len(after) == 12  # three pairs, four settings; nothing half-written is left
    assert after.items() >= before.items()
    whole = tmp_path / "whole"
    request_[4] = whole
    assert lumirkit(*request_).returncode == 0
    pd.testing.assert_frame_equal(scores(out), scores(whole), rtol=1e-3)


def test_a_pair_that_fails_costs_itself(request_, lumirkit, phantom_root, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(phantom_root, data)
    (data / "labelsVal" / "LUMIRMRI_4014_0000.nii.gz").write_bytes(b"no image")
    request_[2] = data
    finished = lumirkit(*request_, "--disturbance", "eroded=50")
    assert finished.returncode == 1
    found = pd.read_csv(out / "stress.csv", keep_default_na=False)
    failed = found["disturbance"] == "eroded"
    assert failed.sum() == 1
    assert (found["pairs"] == np.where(failed, 0, 2)).all()
    assert "| eroded | 50 mm | failed |" in (out / "stress.md").read_text()
    page = (out / "stress.html").read_text()
    for words in ("4015_0000&lt;--4014_0000", "eroded 50", "nothing of the brain is left"):
        assert words in page
    assert "of 2 pairs" in (out / "stress.md").read_text()
    shutil.copy(phantom_root / "labelsVal" / "LUMIRMRI_4014_0000.nii.gz", data / "labelsVal")
    assert lumirkit(*request_).returncode == 0
    assert (pd.read_csv(out / "stress.csv")["pairs"] == 3).all()


def test_a_call_that_finds_nothing_leaves_no_page_of_an_earlier_one(request_, lumirkit, phantom_root, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(phantom_root, data)
    request_[2] = data
    assert lumirkit(*request_, "--split", "in-domain").returncode == 0
    for labels in (data / "labelsVal").iterdir():
        labels.write_bytes(b"no image")
    assert lumirkit(*request_, "--split", "in-domain").returncode == 1
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_a_result_that_cannot_be_kept_ends_the_work(request_, lumirkit, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("no folder")
    finished = lumirkit(*request_)
    assert finished.returncode != 0
    assert "a result could not be kept" in finished.stderr
    assert "the same command goes on" in finished.stderr
    assert "registering 2/" not in finished.stderr


def test_a_split_named_twice_is_one_and_a_pair_listed_twice_is_refused(phantom_root, tmp_path):
    once = list_labelled_cases(phantom_root, ["in-domain"], None)
    assert list_labelled_cases(phantom_root, ["in-domain", "in-domain"], None) == once
    data = tmp_path / "data"
    shutil.copytree(phantom_root, data)
    (config,) = data.glob("*LUMIR24_Segmentation_evaluation_config.json")
    content = json.loads(config.read_text())
    content["eval_pairs"] *= 2
    config.write_text(json.dumps(content))
    with pytest.raises(RequestError, match=f"found the pair {once[0].name} 2 times in the split in-domain"):
        list_labelled_cases(data, ["in-domain"], None)


def test_an_image_that_is_not_there_is_told_before_anything_is_registered(phantom_root, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(phantom_root, data)
    case = list_labelled_cases(data, ["in-domain"], 1)[0]
    case.moving_image.unlink()
    with pytest.raises(EvaluationError, match=f"{case.moving_image.name}: no such file; expected the moving image"):
        list_labelled_cases(data, ["in-domain"], 1)


def test_a_label_that_was_moved_out_of_the_image_counts_as_0(phantom_root):
    pair = LabelledPair.read(list_labelled_cases(phantom_root, ["in-domain"], 1)[0])
    ids = set(pair.case.metrics[0].labels) & set(np.unique(pair.fixed.labels)) & set(np.unique(pair.moving.labels))
    zero = np.zeros((*pair.fixed.image.shape, 3), np.float32)
    before, _ = pair.score(zero, pair.moving)
    lost = max(ids)
    moved = replace(pair.moving, labels=np.where(pair.moving.labels == lost, 999, pair.moving.labels))
    dice = dice_by_label(pair.fixed.labels, pair.moving.labels, ids)
    assert before == pytest.approx(100 * sum(dice.values()) / len(ids))
    assert pair.score(zero, moved)[0] == pytest.approx(100 * (sum(dice.values()) - dice[lost]) / len(ids))


def dice_by_label(fixed, moving, ids):
    return {
        each: 2 * ((fixed == each) & (moving == each)).sum() / ((fixed == each).sum() + (moving == each).sum())
        for each in ids
    }


def test_maps_that_share_the_background_alone_cannot_be_scored(phantom_root, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(phantom_root, data)
    case = list_labelled_cases(data, ["in-domain"], 1)[0]
    labels = data / "labelsVal" / case.moving_image.name
    found = nib.load(labels)
    nib.save(nib.Nifti1Image(np.zeros(found.shape, np.uint8), found.affine), labels)
    with pytest.raises(VolumeError, match="share none of the labels to score but the background"):
        LabelledPair.read(case)


def test_weights_whose_path_has_an_equals_sign(request_, lumirkit, make_weights, tmp_path):
    weights = tmp_path / "lr=0.1.safetensors"
    shutil.copy(make_weights(), weights)
    request_[6] = weights
    assert lumirkit(*request_, "--split", "in-domain").returncode == 0
    assert set(pd.read_csv(tmp_path / "out" / "pairs.csv")["method"]) == {"lr=0.1"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--weights", "=net.safetensors"], "--weights =net.safetensors: expected a path, or NAME=path"),
        (["--disturbance", "noise=1e39"], "1e39"),
        (["--split", "lesions"], "--split lesions: expected one of in-domain, out-of-domain, multi-modal"),
        (["--reference", "magic"], "--reference magic: expected one of zero, syn"),
        (["--reference", "zero", "--reference", "zero"], "found 2 methods called zero"),
        (["--weights", "none"], "--weights none: found beside other weights"),
        (["--disturbance", "fog"], "--disturbance fog: expected one of bias"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_a_request_that_cannot_be_carried_out(more, says, request_, lumirkit, tmp_path):
    finished = lumirkit(*request_, *more)
    assert finished.returncode == 2
    assert says in finished.stderr
    assert not (tmp_path / "out").exists()


def test_no_network_and_no_reference_is_no_method(phantom_root, lumirkit, tmp_path):
    finished = lumirkit("stress", "--ground-truth", phantom_root, "--out", tmp_path / "out", "--weights", "none")
    assert finished.returncode == 2
    assert "found no method; add --refine" in finished.stderr


def test_only_landmarks_cannot_be_scored(phantom_root, lumirkit, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(phantom_root, data)
    for config in data.glob("*_Segmentation_evaluation_config.json"):
        config.unlink()
    finished = lumirkit("stress", "--ground-truth", data, "--out", tmp_path / "out")
    assert finished.returncode == 2
    assert "no split has labels to score" in finished.stderr
