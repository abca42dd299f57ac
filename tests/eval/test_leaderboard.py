"""Scoring a ground-truth folder from end to end."""

import json
import math

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from lumirkit.base.engine import Processes
from lumirkit.commands.main import app
from lumirkit.eval.leaderboard import ScoringOptions, aggregate, evaluate
from lumirkit.eval.mask_rule import MaskRule

IN_DOMAIN = "3455_0000<--3454_0000"
LANDMARKS = "3485_0000<--3484_0000"


def labels_of(ground_truth, name, folder="labelsVal"):
    return np.asarray(nib.load(ground_truth / folder / f"LUMIRMRI_{name}.nii.gz").dataobj)


def change_config(ground_truth, kind, change):
    path = ground_truth / f"LUMIR25_VAL_{kind}_evaluation_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def overwrite(path, data):
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def test_zero_displacement(ground_truth):
    result = evaluate(ground_truth, None)
    fixed, moving = labels_of(ground_truth, "3455_0000"), labels_of(ground_truth, "3454_0000")
    dice = [
        2 * ((fixed == label) & (moving == label)).sum() / ((fixed == label).sum() + (moving == label).sum())
        for label in (0, 4, 11, 206)
    ]
    scores = result.cases[IN_DOMAIN]
    assert scores["DSC"]["detailed"] == pytest.approx(dice)
    assert scores["DSC"]["mean"] == pytest.approx(np.mean(dice))
    assert scores["Non-diffeomorphic Volumes"] == {"mean": 0.0, "detailed": 0.0}
    fixed, moving = (labels_of(ground_truth, name, "landmarksVal") for name in ("3485_0000", "3484_0000"))
    distances = [
        np.linalg.norm(np.argwhere(fixed == label).mean(0) - np.argwhere(moving == label).mean(0))
        for label in (4, 11, 206)
    ]
    assert result.cases[LANDMARKS]["TRE_lm"]["mean"] == pytest.approx(np.mean(distances))


def test_json_has_the_official_form(ground_truth, fields):
    content = json.loads(evaluate(ground_truth, fields).to_json())
    assert list(content) == ["name", "aggregates", "cases", "eval_version", "guarded"]
    assert (content["name"], content["eval_version"]) == ("LUMIR", "3.0")
    metrics = ["DSC", "HD95", "Non-diffeomorphic Volumes", "TRE_lm"]
    assert list(content["aggregates"]) == [*metrics, "ID_dice", "OOD_dice", "MM_dice"]
    assert list(content["aggregates"]["DSC"]) == ["mean", "std", "30"]
    assert list(content["cases"]) == [LANDMARKS, IN_DOMAIN, "4015_0000<--4014_0000", "4024_0000<--4033_0001"]
    assert list(content["cases"][IN_DOMAIN]) == ["Non-diffeomorphic Volumes", "DSC", "HD95"]
    assert content["aggregates"]["Non-diffeomorphic Volumes"]["mean"] > 1


def test_workers_do_not_change_the_result(ground_truth, fields):
    assert evaluate(ground_truth, fields, Processes(2)).to_json() == evaluate(ground_truth, fields).to_json()


def test_a_cluster_scores_as_one_process_does_and_names_bad_pairs(ground_truth, fields, dask_cluster, tmp_path):
    sorted(fields.iterdir())[0].write_bytes(b"no field")
    options = ["--ground-truth", str(ground_truth), "--fields", str(fields)]
    scores = []
    for more in ([], ["--cluster", dask_cluster.scheduler_address]):
        out = tmp_path / f"{len(more)}" / "metrics.json"
        ended = CliRunner().invoke(app, ["evaluate", *options, "--out", str(out), *more])
        assert ended.exit_code == 1
        assert "1 failed" in ended.stderr
        scores.append(out.read_bytes())
    assert scores[0] == scores[1]


def test_channels_first_fields(ground_truth, fields):
    expected = evaluate(ground_truth, fields).to_json()
    for path in fields.iterdir():
        overwrite(path, np.moveaxis(np.asarray(nib.load(path).dataobj), -1, 0))
    assert evaluate(ground_truth, fields).to_json() == expected


def test_lost_labels_and_landmarks(ground_truth, fields):
    for path in fields.iterdir():
        overwrite(path, np.full((14, 12, 10, 3), 50, dtype=np.float32))
    result = evaluate(ground_truth, fields)
    assert result.aggregates["HD95"]["mean"] == math.inf
    assert math.isnan(result.aggregates["HD95"]["std"])
    assert math.isnan(result.aggregates["TRE_lm"]["mean"])
    assert '"mean": Infinity' in result.to_json()
    assert '"mean": NaN' in result.to_json()


def test_absent_label_is_left_out_of_the_mean(ground_truth):
    for kind in ("LUMIR24_Segmentation", "HighField_Segmentation", "MultiModal_Segmentation"):
        change_config(ground_truth, kind, lambda config: config["evaluation_methods"][1]["labels"].append(99))
    dice = evaluate(ground_truth, None).cases[IN_DOMAIN]["DSC"]
    assert math.isnan(dice["detailed"][-1])
    assert dice["mean"] == pytest.approx(np.mean(dice["detailed"][:-1]))


def test_a_case_in_two_configs_keeps_the_later_scores(ground_truth):
    def share(config):
        config["eval_pairs"][0] = {
            "fixed": "./imagesVal/LUMIRMRI_3455_0000.nii.gz",
            "moving": "./imagesVal/LUMIRMRI_3454_0000.nii.gz",
        }

    alone = evaluate(ground_truth, None)
    change_config(ground_truth, "LUMIR24_Landmark", share)
    shared = evaluate(ground_truth, None)
    assert next(iter(shared.cases)) == IN_DOMAIN
    assert shared.cases[IN_DOMAIN] == alone.cases[IN_DOMAIN]
    assert "TRE_lm" not in shared.aggregates
    assert shared.aggregates["ID_dice"] == alone.aggregates["ID_dice"]


def test_some_of_the_splits(ground_truth):
    for path in ground_truth.glob("*.json"):
        if "MultiModal" not in path.name:
            path.unlink()
    aggregates = evaluate(ground_truth, None).aggregates
    assert list(aggregates) == ["DSC", "HD95", "Non-diffeomorphic Volumes", "MM_dice"]
    assert aggregates["MM_dice"] == aggregates["DSC"]


def test_aggregate():
    values = [1.0, 2.0, 3.0, 10.0]
    low, high = aggregate(values, high_is_worse=False), aggregate(values, high_is_worse=True)
    assert low == {"mean": 4.0, "std": pytest.approx(math.sqrt(12.5)), "30": pytest.approx(1.9)}
    assert high["30"] == pytest.approx(3.7)  # rank 0.7 * 3 = 2.1, so 3 + 0.1 * (10 - 3)


def test_mask_rule(ground_truth, fields):
    """2024 masks with the moving image: as if the two images were exchanged under the rule of 2025."""
    images = ground_truth / "imagesVal"
    fixed, moving = (images / f"LUMIRMRI_{name}_0000.nii.gz" for name in ("3455", "3454"))
    brain = np.zeros((14, 12, 10), dtype=np.uint8)
    brain[3:9] = 1
    overwrite(moving, brain)
    by_moving, by_fixed = (
        evaluate(ground_truth, fields, options=ScoringOptions(mask_rule=rule)).cases[IN_DOMAIN] for rule in MaskRule
    )
    overwrite(fixed, brain)
    expected = evaluate(ground_truth, fields).cases[IN_DOMAIN]
    assert by_moving == expected
    assert by_moving != by_fixed


def test_permuted_labels_permute_the_result(ground_truth, fields):
    before = evaluate(ground_truth, fields).cases[IN_DOMAIN]
    swapped = np.arange(256, dtype=np.uint8)
    swapped[[4, 11, 206]] = [11, 206, 4]
    for path in (ground_truth / "labelsVal").iterdir():
        overwrite(path, swapped[np.asarray(nib.load(path).dataobj)])
    after = evaluate(ground_truth, fields).cases[IN_DOMAIN]
    for metric in ("DSC", "HD95"):
        background, four, eleven, last = before[metric]["detailed"]
        assert after[metric]["detailed"] == [background, last, four, eleven]


def test_labels_in_any_order_and_repeated(ground_truth, fields):
    before = evaluate(ground_truth, fields).cases[IN_DOMAIN]

    def reorder(config):
        for metric in config["evaluation_methods"][1:]:
            metric["labels"] = [206, 4, 206, 0]

    change_config(ground_truth, "LUMIR24_Segmentation", reorder)
    after = evaluate(ground_truth, fields).cases[IN_DOMAIN]
    for metric in ("DSC", "HD95"):
        background, four, _, last = before[metric]["detailed"]
        assert after[metric]["detailed"] == [last, four, last, background]
        assert after[metric]["mean"] == pytest.approx((2 * last + four + background) / 4)
