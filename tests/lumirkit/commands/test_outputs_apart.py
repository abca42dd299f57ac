"""An output that is one of the inputs is refused by every command before anything is done, and stays as it is."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from lumirkit.base.errors import RequestError
from lumirkit.commands.main import app
from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.volume import write_displacement
from lumirkit.submission.contract import pair_of_paths

FIXED, MOVING = "imagesVal/LUMIRMRI_3455_0000.nii.gz", "imagesVal/LUMIRMRI_3454_0000.nii.gz"


@pytest.fixture
def data(phantom_root, make_weights, tmp_path):
    """A dataset folder with a folder of fields, metrics files, a run folder, points and weights in it."""
    root = tmp_path / "data"
    shutil.copytree(phantom_root, root)
    (root / "fields").mkdir()
    write_displacement(root / "fields" / "disp_3455_3454.nii.gz", np.zeros((32, 40, 34, 3), np.float32), np.eye(4))
    (root / "points.csv").write_text("x,y,z\n0,0,0\n")
    for name in ("metrics.json", "ranking.csv", "log.jsonl"):
        (root / name).write_text("{}")
    shutil.copy(make_weights(), root / "w.safetensors")
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
    (f"export {FIELD} --fixed {{root}}/{FIXED} --moving {{root}}/{MOVING} --out {{out}}", FIXED),
    (f"evaluate {SCORED} --out {{out}}", "LUMIR25_dataset.json"),
    (f"report {SCORED} --out {{out}}", FIXED),
    ("report --training {root} --out {out}", "log.jsonl"),
    ("table A={root}/metrics.json --out {out}", "metrics.json"),
    ("statistics {root}/ranking.csv --out {root}", ""),
    ("manifest check {root} --json {out}", "LUMIR25_dataset.json"),
    ("weights {root}/w.safetensors --pack {root}", ""),
    (f"bench accuracy {PAIR} --weights {{root}}/w.safetensors --out {{out}}", FIXED),
]


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_an_output_that_is_an_input_is_refused(data, command, output):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    arguments = command.format(root=data, out=data / output).split()
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RequestError), result.output
    assert "place of the output" in str(result.exception) or "two outputs" in str(result.exception)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_field_is_no_image_of_its_dataset(data):
    """In `predict` and `baseline`: a pair whose field would replace an image of another pair."""
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
    for command in (["predict"], ["baseline", "zero"]):
        result = CliRunner().invoke(app, [*command, "--dataset", str(path), "--out", str(data)])
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
