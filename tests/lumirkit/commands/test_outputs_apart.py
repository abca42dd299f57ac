"""An output that is one of the inputs is refused by every command before anything is done, and stays as it is."""

import json
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from lumirkit.base.errors import RequestError
from lumirkit.base.outputs import require_folder_apart
from lumirkit.commands.main import app
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.volume import write_displacement
from lumirkit.submission.contract import pair_of_paths

FIXED, MOVING = "imagesVal/LUMIRMRI_3455_0000.nii.gz", "imagesVal/LUMIRMRI_3454_0000.nii.gz"


RECIPE = """
name: tiny
network: {resolution_vox: 2, feature_channels: [4, 4], update_channels: [4, 4]}
stages:
  - {epochs: 1, items_per_epoch: 1, learning_rate: 1.0e-3, losses: {ncc_window_vox: 5}}
"""
ABLATION = {"name": "small", "base": "../tiny.yaml", "rows": [{"name": "plain", "stages": 1}]}


@pytest.fixture
def data(phantom_root, make_weights, tmp_path):
    """A dataset folder with a folder of fields, metrics files, run folders, points, recipes and weights in it."""
    root = tmp_path / "data"
    shutil.copytree(phantom_root, root)
    (root / "fields").mkdir()
    write_displacement(root / "fields" / "disp_3455_3454.nii.gz", np.zeros((32, 40, 34, 3), np.float32), np.eye(4))
    (root / "points.csv").write_text("x,y,z\n0,0,0\n")
    for folder in ("pictures", "run/weights", "ablation"):
        (root / folder).mkdir(parents=True)
    others = ("metrics.json", "ranking.csv", "log.jsonl", "affine.txt", "pictures/step.png")
    for name in (*others, "fields/disp_3455_3454.json"):
        (root / name).write_text("{}")
    (root / "row.json").write_text('{"name": "mine"}')
    for name in ("tiny.yaml", "sheet.png", "bench.md"):
        (root / name).write_text(RECIPE)
    for name in ("run/plan.yaml", "ablation/plan.json"):
        (root / name).write_text(json.dumps(ABLATION))
    for name in ("disp_3455_3454.json", "lumirkit_status.json"):
        shutil.copy(find_dataset_json(root), root / name)
    for name in ("w.safetensors", "run/weights/tiny_seed0.safetensors"):
        shutil.copy(make_weights(), root / name)
    return root


FIELD = "{root}/fields/disp_3455_3454.nii.gz"
PAIR = f"{{root}}/{FIXED} {{root}}/{MOVING}"
SCORED = "--ground-truth {root} --fields {root}/fields"
COMMANDS = [
    (f"register {PAIR} {{out}}", FIXED),
    (f"register {PAIR} {{root}}/new.nii.gz --moved {{out}}", MOVING),
    (f"register {PAIR} {{root}}/new.nii.gz --moved {{root}}/new.nii.gz", ""),
    (
        f"register {PAIR} {{out}} --fixed-mask {{root}}/labelsVal/LUMIRMRI_3455_0000.nii.gz",
        "labelsVal/LUMIRMRI_3455_0000.nii.gz",
    ),
    (f"warp {FIELD} --moving {{root}}/{MOVING} --out {{out}}", MOVING),
    (f"warp {FIELD} --moving {{root}}/{MOVING} --out {{out}}", "fields/disp_3455_3454.nii.gz"),
    (f"warp {FIELD} --points {{root}}/points.csv --out {{out}}", "points.csv"),
    ("warp [{root}/affine.txt,1] --points {root}/points.csv --out {out}", "affine.txt"),
    (f"export {FIELD} --fixed {{root}}/{FIXED} --moving {{root}}/{MOVING} --out {{out}}", FIXED),
    (f"evaluate {SCORED} --out {{out}}", "LUMIR25_dataset.json"),
    (f"evaluate {SCORED} --out {{out}}", "fields/disp_3455_3454.json"),
    (f"report {SCORED} --out {{out}}", FIXED),
    (f"report {SCORED} --out {{out}}", "row.json"),
    ("report --training {root} --out {out}", "log.jsonl"),
    ("report --training {root} --out {out}", "pictures/step.png"),
    ("table A={root}/metrics.json --out {out}", "metrics.json"),
    ("statistics {root}/ranking.csv --out {root}", ""),
    ("manifest check {root} --json {out}", "LUMIR25_dataset.json"),
    ("weights {root}/w.safetensors --pack {root}", ""),
    (f"bench accuracy {PAIR} --weights {{root}}/w.safetensors --out {{out}}", FIXED),
    ("bench forward --network {root}/bench.md --out {root}", ""),
    ("predict --dataset {root}/lumirkit_status.json --out {root}", ""),
    ("baseline zero --dataset {root}/disp_3455_3454.json --out {root}", ""),
    ("train {root}/tiny.yaml --data {root} --out {root}", ""),
    (
        "train {root}/tiny.yaml --set initial_weights={out} --data {root} --out {root}/run",
        "run/weights/tiny_seed0.safetensors",
    ),
    ("ablation {root}/run/plan.yaml --data {root} --out {root}", ""),
    ("ablation {root}/ablation/plan.json --data {root} --out {root}/ablation", ""),
    ("synthetic {root}/sheet.png --out {out}", "sheet.png"),
    ("container package image --dataset {root} --out {out}", "LUMIR25_dataset.json"),
]


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_an_output_that_is_an_input_is_refused(data, command, output):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    arguments = command.format(root=data, out=data / output).split()
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RequestError), result.output
    assert "place of the output" in str(result.exception) or "two outputs" in str(result.exception)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


FILES_TO_WRITE = [
    f"register {PAIR} {{out}}.nii.gz",
    f"register {PAIR} {{root}}/new.nii.gz --moved {{out}}.nii.gz",
    f"warp {FIELD} --moving {{root}}/{MOVING} --out {{out}}.nii.gz",
    f"warp {FIELD} --points {{root}}/points.csv --out {{out}}.csv",
    f"export {FIELD} --fixed {{root}}/{FIXED} --moving {{root}}/{MOVING} --out {{out}}.nii.gz",
    f"invert {FIELD} --out {{out}}.nii.gz",
    f"compose {FIELD} {FIELD} --out {{out}}.nii.gz",
    f"jacobian {FIELD} --out {{out}}.nii.gz",
    f"template {{root}}/{FIXED} {{root}}/{MOVING} --out {{out}}.nii.gz",
    f"evaluate {SCORED} --out {{out}}",
    f"report {SCORED} --out {{out}}",
    "report --training {root} --out {out}",
    "table A={root}/metrics.json --out {out}.md",
    "manifest check {root} --json {out}",
    f"bench accuracy {PAIR} --weights {{root}}/w.safetensors --out {{out}}",
    "synthetic sitreg_synthetic --out {out}.png",
    "predict --dataset {root} --out {root}/fields --zip {out}",
]


@pytest.mark.parametrize("command", FILES_TO_WRITE)
def test_a_folder_in_the_place_of_a_file_is_refused(data, tmp_path, command):
    out = tmp_path / "folder"
    for ending in ("", ".nii.gz", ".csv", ".md", ".png"):
        out.with_name(f"folder{ending}").mkdir()
    result = CliRunner().invoke(app, command.format(root=data, out=out).split())
    assert isinstance(result.exception, RequestError), result.output
    assert re.search(r"folder\S*: found a folder in the place of the output; expected a file", str(result.exception))
    assert not [found for folder in tmp_path.glob("folder*") for found in folder.iterdir()]


@pytest.mark.parametrize("out", ["", "imagesVal", "imagesVal/new/deep", "labelsVal"])
def test_results_of_a_stress_test_lie_apart_from_the_datasets_files(data, out):
    stress = ["stress", "--ground-truth", str(data), "--weights", str(data / "w.safetensors"), "--out", str(data / out)]
    result = CliRunner().invoke(app, stress)
    assert isinstance(result.exception, RequestError), result.output
    assert "found the dataset's folder" in str(result.exception)
    assert not list(data.rglob("kept"))


def test_an_output_folder_may_be_a_new_one_of_the_dataset(tmp_path):
    images = [tmp_path / "imagesVal" / "a.nii.gz"]
    images[0].parent.mkdir()
    require_folder_apart(tmp_path / "runs" / "first", tmp_path, images)
    (tmp_path / "link").symlink_to(images[0].parent)
    with pytest.raises(RequestError, match="link/new: found the dataset's folder"):
        require_folder_apart(tmp_path / "link" / "new", tmp_path, images)


def test_a_field_is_no_image_of_its_dataset(data):
    """In all that register a dataset: a pair whose field would replace an image of another pair."""
    path = find_dataset_json(data)
    image = "disp_3455_3454.nii.gz"
    shutil.copy(data / FIXED, data / "disp_0001_0002.nii.gz")
    content = json.loads(path.read_text())
    content["validation"] = [
        {"fixed": "a_0001_0000.nii.gz", "moving": "b_0002_0000.nii.gz"},
        {"fixed": "disp_0001_0002.nii.gz", "moving": image},
    ]
    for name in ("a_0001_0000.nii.gz", "b_0002_0000.nii.gz", image):
        shutil.copy(data / FIXED, data / name)
    path.write_text(json.dumps(content))
    for command, dataset in ((["predict"], path), (["baseline", "zero"], path), (["container", "run", "image"], data)):
        result = CliRunner().invoke(app, [*command, "--dataset", str(dataset), "--out", str(data)])
        assert isinstance(result.exception, RequestError), result.output
        assert "disp_0001_0002.nii.gz: found the input" in str(result.exception)


def test_the_container_writes_over_no_image(data):
    fixed, moving = data / FIXED, data / MOVING
    with pytest.raises(RequestError, match="place of the output"):
        pair_of_paths([fixed, moving, fixed, moving, moving])


def test_a_dataset_is_not_split_into_itself(data, tmp_path):
    data.rename(tmp_path / "development")
    result = CliRunner().invoke(app, ["manifest", "split", str(tmp_path / "development"), "--out", str(tmp_path)])
    assert isinstance(result.exception, RequestError)
