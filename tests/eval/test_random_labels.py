"""`evaluate` of files with random headers and types: the numbers of plain files with the same values, or one sentence.

One file of a ground-truth folder or one field is random; its plain twin holds what nibabel reads from it, as int32 or
float64. `LUMIRKIT_EXAMPLES=500` draws so many examples; `--hypothesis-show-statistics` then lists the sentences.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st
from random_headers import PLACES, SHAPES, TYPES, VALUES, affine_of, draws, kind_of, oddities, random_files, run

SHAPE = (12, 10, 9)
LABELS = [0, 4, 11, 100]
PAIRS = {"Segmentation": ("3455", "3454"), "Landmark": ("3485", "3484")}
NDV = {"name": "NDV", "metric": "ndv"}
METRICS = {
    "Segmentation": [NDV, *({"name": kind, "metric": kind, "labels": LABELS} for kind in ("dice", "hd95"))],
    "Landmark": [NDV, {"name": "TRE", "metric": "tre", "dest": "landmarks"}],
}
ODDITIES = (*PLACES, *TYPES, *VALUES, *SHAPES, "truncated")


def blocks(seed):
    """Three boxes on background, at places that differ by up to a voxel."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE)
    for label, corner in zip(LABELS[1:], ((2, 2, 2), (6, 2, 3), (3, 6, 4)), strict=True):
        x, y, z = np.array(corner) + rng.integers(0, 2, 3)
        labels[x : x + 4, y : y + 3, z : z + 4] = label
    return labels


def field(seed):
    return np.random.default_rng(seed).uniform(-0.45, 0.45, (*SHAPE, 3))


FILES = {}
for n, kind in enumerate(PAIRS):
    fixed, moving = PAIRS[kind]
    for m, name in enumerate((fixed, moving)):
        for folder in ("images", "labels" if kind == "Segmentation" else "landmarks"):
            FILES[f"truth/{folder}Val/LUMIRMRI_{name}_0000.nii.gz"] = blocks(2 * n + m)
    FILES[f"fields/disp_{fixed}_{moving}.nii.gz"] = field(n)


OPTIONS = [(), (), ("--designs",), ("--mask-rule", "2024", "--designs")]
UNUSED = [f"truth/imagesVal/LUMIRMRI_{moving}_0000.nii.gz" for _, moving in PAIRS.values()]  # by the rule of 2025
OF_PLACE = ["truth/landmarksVal/LUMIRMRI_3485_0000.nii.gz"]  # whose affine says what a voxel is in mm


def save(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def write_all(root):
    """Every file as plain as can be, and the configs."""
    for name, values in FILES.items():
        save(root / name, values.astype(np.float32 if name.startswith("fields") else np.uint8))
    for kind, pair in PAIRS.items():
        fixed, moving = (f"./imagesVal/LUMIRMRI_{name}_0000.nii.gz" for name in pair)
        config = {
            "name": "LUMIR",
            "evaluation_methods": METRICS[kind],
            "expected_shape": [*SHAPE, 3],
            "eval_pairs": [{"fixed": fixed, "moving": moving}],
            "masked_evaluation": False,
        }
        path = root / f"truth/LUMIR25_VAL_LUMIR24_{kind}_evaluation_config.json"
        path.write_text(json.dumps(config), encoding="utf-8")


@st.composite
def requests(draw):
    name = draw(st.sampled_from(list(FILES)))
    odd = draw(oddities(ODDITIES))
    file = draw(random_files(np.zeros(SHAPE) if name.startswith("fields") else FILES[name], odd))
    if name.startswith("fields"):
        dtype = file.dtype if "type" in odd else draw(st.sampled_from(["float32", "float64", "float64", "int16"]))
        file = replace(file, values=file.values[..., None] + FILES[name] if file.values.shape == SHAPE else file.values)
        file = replace(file, dtype=dtype)
    return name, replace(file, suffix=".nii.gz"), draw(st.sampled_from(OPTIONS))


def score(root, options):
    """What the command says, and what it has written."""
    out = root / "out" / "metrics.json"
    request = ("evaluate", "--ground-truth", root / "truth", "--fields", root / "fields", "--out", out)
    status, said = run(*request, *options)
    assert {path.name for path in out.parent.iterdir()} <= {"metrics.json", "metrics.cases"}
    assert not list(root.rglob(".partial-*"))
    return status, said, json.loads(out.read_text())


def write_twin(path):
    """Put what nibabel reads from a file in its place, as plain as can be; tells whether its affine has an inverse."""
    values, affine = nib.load(path).get_fdata(), affine_of(path)
    if path.parent.name in ("labelsVal", "landmarksVal"):
        values = np.rint(values).astype(np.int32)
    with np.errstate(invalid="ignore"):  # of a flat affine
        volume = abs(np.linalg.det(affine[:3, :3])) / np.linalg.norm(affine[:3, :3], axis=0).prod()
    save(path, values, affine if volume > 1e-6 else None)
    return volume > 1e-6


@draws(few=80)
@given(requests())
def test_evaluate(request_):
    name, file, options = request_
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_all(root)
        path = root / name
        file.write(path.parent, path.name.removesuffix(".nii.gz"))
        status, said, found = score(root, options)
        failed = found["guarded"]["failed"]
        for reason in failed.values():
            assert "unforeseen" not in reason
            assert reason.startswith(str(path)), reason
            assert "\n" not in reason
            event(f"refused: {kind_of(reason, path.parent)}")
        assert status == bool(failed), said
        if failed:
            return
        event("result")
        require_causes(found)
        if name in UNUSED and not options:
            return
        has_place = write_twin(path)
        shutil.rmtree(root / "out")
        expected = score(root, options)[2]
        if not has_place:
            event("result without a place in the world")
            assert not any(np.isfinite(drop_mm(found))) or name not in OF_PLACE
            drop_mm(expected)
        assert comparable(expected) == comparable(found)


def require_causes(found):
    """Check that there is a cause for every measure that is no finite number."""
    for measure, statistics in found["guarded"]["overall"].items():
        for causes in (*statistics["nan"].values(), *statistics["inf"].values()):
            assert causes, measure


def drop_mm(found):
    """Take what is measured in mm away, and the warnings; returns the numbers."""
    guarded = found["guarded"]
    guarded["warnings"] = {}
    for tables in (guarded["overall"], *guarded["splits"].values()):
        for measure in [measure for measure in tables if measure.endswith("_mm")]:
            del tables[measure]
    cases = [case for split in guarded["cases"].values() for case in split.values()]
    return [case.pop(measure) for case in cases for measure in list(case) if measure.endswith("_mm")]


def comparable(found):
    """Numbers as text of six digits, of which NaN is equal to itself."""
    if isinstance(found, dict):
        return {key: comparable(value) for key, value in found.items()}
    if isinstance(found, list):
        return [comparable(value) for value in found]
    return f"{found:.6g}" if isinstance(found, float) else found
