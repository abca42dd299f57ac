"""`check_dataset` on a sound phantom dataset and on copies of it, each damaged in one way."""

import gzip
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from lumirkit.data_manifests.check import check_dataset
from lumirkit.data_manifests.dataset import ManifestError

DATASET = "LUMIR25_dataset.json"
SEGMENTATION = "LUMIR25_VAL_LUMIR24_Segmentation_evaluation_config.json"
LANDMARK = "LUMIR25_VAL_LUMIR24_Landmark_evaluation_config.json"
TRAIN = "imagesTr/LUMIRMRI_0001_0000.nii.gz"
FIXED = "imagesVal/LUMIRMRI_3455_0000.nii.gz"
LABELS = "labelsVal/LUMIRMRI_3455_0000.nii.gz"
LANDMARKS_FIXED = "landmarksVal/LUMIRMRI_3485_0000.nii.gz"
LANDMARKS_MOVING = "landmarksVal/LUMIRMRI_3484_0000.nii.gz"


@pytest.fixture
def root(phantom_root, tmp_path):
    """A copy of the phantom dataset to damage."""
    return shutil.copytree(phantom_root, tmp_path / "copy")


def change(path, edit=lambda data: data, affine=None, dtype=None):
    """Rewrite a volume: edit(array) gives the new array; affine and dtype replace those of the file."""
    image = nib.load(path)
    data = edit(np.asanyarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(data.astype(dtype or data.dtype), image.affine if affine is None else affine), path)


def change_json(path, edit):
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def set_at(index, value):
    def edit(data):
        data = data.astype(np.int16 if isinstance(value, int) else np.float32)
        data[index] = value
        return data

    return edit


def pair(fixed, moving):
    return {"fixed": f"./imagesVal/LUMIRMRI_{fixed}.nii.gz", "moving": f"./imagesVal/LUMIRMRI_{moving}.nii.gz"}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3000])


def damage_checksum(path):
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF
    path.write_bytes(bytes(raw))


def cut_inside(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))


def set_affine_numbers(path, number):
    """Fill the three rows of the sform; nibabel refuses to write such a header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[280:328] = np.full(12, number, "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


def as_four_channels(path):
    change(path, lambda data: np.stack([data, data], axis=-1))


def as_colours(path):
    shape = nib.load(path).shape
    nib.save(nib.Nifti1Image(np.zeros(shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), path)


FLIPPED, SPACED, SHIFTED = np.diag([-1.0, 1, 1, 1]), np.diag([1.0, 1, 1.2, 1]), np.eye(4)
SHIFTED[0, 3] = 5

VOLUME_CASES = {
    "truncated": (FIXED, truncate, "error", "not readable .*EOFError"),
    "wrong checksum": (FIXED, damage_checksum, "error", "not readable .*CRC"),
    "fewer voxels than the header says": (FIXED, cut_inside, "error", "not readable"),
    "not NIfTI": (FIXED, lambda p: p.write_bytes(gzip.compress(b"text")), "error", "not readable"),
    "absent image": (FIXED, lambda p: p.unlink(), "error", "no such file"),
    "shape": (FIXED, lambda p: change(p, lambda d: d[:-1]), "error", r"shape \(31, 40, 34\)"),
    "4-D": (FIXED, as_four_channels, "error", r"shape \(32, 40, 34, 2\)"),
    "colours": (FIXED, as_colours, "error", "dtype .*not a number"),
    "orientation": (FIXED, lambda p: change(p, affine=FLIPPED), "error", "axes LAS"),
    "spacing": (FIXED, lambda p: change(p, affine=SPACED), "error", "spacing 1 x 1 x 1.2 mm"),
    "affine": (FIXED, lambda p: change(p, affine=SHIFTED), "warning", "affine .*5"),
    "affine of NaN": (FIXED, lambda p: set_affine_numbers(p, np.nan), "error", r"axes \?\?\?"),
    "affine of zeros": (FIXED, lambda p: set_affine_numbers(p, 0), "error", r"axes \?\?\?"),
    "dtype": (FIXED, lambda p: change(p, dtype=np.float64), "warning", "dtype float64"),
    "NaN": (FIXED, lambda p: change(p, set_at((9, 9, 9), np.nan)), "error", "1 voxels are NaN or inf"),
    "inf": (TRAIN, lambda p: change(p, set_at((9, 9, 9), np.inf)), "error", "1 voxels are NaN or inf"),
    "all zero": (TRAIN, lambda p: change(p, lambda d: d * 0), "error", "every voxel is 0"),
    "above 255": (TRAIN, lambda p: change(p, set_at((16, 20, 17), 300)), "error", "intensities from 0 to 300"),
    "negative": (TRAIN, lambda p: change(p, set_at((16, 20, 17), -3)), "error", "intensities from -3"),
    "scaled to 1": (TRAIN, lambda p: change(p, lambda d: d / np.float32(255)), "warning", "no intensity above"),
    "corner": (TRAIN, lambda p: change(p, set_at((0, 0, -1), 7)), "error", "background is not 0: .* 1 of 8 corners"),
    "no background": (TRAIN, lambda p: change(p, lambda d: np.maximum(d, 1)), "error", "not 0: 0 voxels are 0, 100%"),
    "touches the border": (TRAIN, lambda p: change(p, set_at((0, 20, 17), 7)), "warning", "1 voxels of the grid's"),
    "absent labels": (LABELS, lambda p: p.unlink(), "error", "no such file"),
    "truncated labels": (LABELS, truncate, "error", "not readable"),
    "label shape": (LABELS, lambda p: change(p, lambda d: d[1:]), "error", r"shape \(31, 40, 34\)"),
    "label orientation": (LABELS, lambda p: change(p, affine=FLIPPED), "error", "axes LAS"),
    "fractional labels": (LABELS, lambda p: change(p, lambda d: d * 0.5), "error", "not whole numbers"),
    "NaN label": (LABELS, lambda p: change(p, set_at((9, 9, 9), np.nan)), "error", "not whole numbers"),
    "float labels": (LABELS, lambda p: change(p, dtype=np.float32), "warning", "label map stored as float32"),
    "unknown id": (LABELS, lambda p: change(p, set_at((9, 9, 9), 99)), "error", "label ids 99"),
    "negative id": (LABELS, lambda p: change(p, set_at((9, 9, 9), -4)), "error", "label ids -4"),
    "unscored id": (LABELS, lambda p: change(p, set_at((9, 9, 9), 207)), "warning", r"207 \(Left TTG transverse"),
    "absent id": (
        LABELS,
        lambda p: change(p, lambda d: np.where(d == 47, 0, d)),
        "warning",
        r"without the scored labels 47 \(Right Hippocampus\)$",
    ),
    "no labels": (LABELS, lambda p: change(p, lambda d: d * 0), "error", "every voxel is 0"),
    "absent landmarks": (LANDMARKS_FIXED, lambda p: p.unlink(), "error", "no such file"),
    "landmark shape": (LANDMARKS_FIXED, lambda p: change(p, lambda d: d[1:]), "error", r"shape \(31, 40, 34\)"),
    "fractional landmarks": (LANDMARKS_FIXED, lambda p: change(p, lambda d: d * 0.5), "error", "not whole numbers"),
    "no landmarks": (LANDMARKS_FIXED, lambda p: change(p, lambda d: d * 0), "error", "every voxel is 0"),
    "landmark lost": (
        LANDMARKS_MOVING,
        lambda p: change(p, lambda d: np.where(d == 3, 0, d)),
        "error",
        "without the landmarks 3 of the fixed",
    ),
    "landmark too many": (
        LANDMARKS_MOVING,
        lambda p: change(p, set_at((9, 9, 9), 77)),
        "warning",
        "landmarks 77 that the fixed",
    ),
    "unlisted file": (
        "imagesVal/LUMIRMRI_9999_0000.nii.gz",
        lambda p: shutil.copy(p.parent / "LUMIRMRI_3455_0000.nii.gz", p),
        "warning",
        "nothing asks for",
    ),
}


def test_a_sound_dataset_is_clean(phantom_root):
    report = check_dataset(phantom_root)
    assert report.findings == ()
    assert report.files_read == 12 * 2 + 2  # images with label maps, and landmarks


def says_dtype(finding):
    return finding.found.startswith("dtype") or "stored as float" in finding.found


@pytest.mark.parametrize("case", VOLUME_CASES)
def test_one_damaged_file(root, case):
    file, damage, severity, found = VOLUME_CASES[case]
    damage(root / file)
    # a damaged value often needs another data type, which is a remark of its own
    findings = [f for f in check_dataset(root).findings if "dtype" in found or "stored" in found or not says_dtype(f)]
    assert [(f.severity, f.file) for f in findings] == [(severity, file)]
    assert re.search(found, findings[0].found)
    assert findings[0].expected
    assert findings[0].remedy


def double_pair(content):
    content["eval_pairs"] *= 2


JSON_CASES = {
    "pair not predicted": (
        SEGMENTATION,
        lambda c: c["eval_pairs"].append(pair("3454_0000", "3455_0000")),
        "error",
        "pair 3454_0000<--3455_0000 is scored, but not in the validation list",
    ),
    "pair not scored": (
        DATASET,
        lambda c: c["validation"].append(pair("3454_0000", "3455_0000")) or c.pop("numValidation"),
        "warning",
        "pair 3454_0000<--3455_0000 is in no evaluation config",
    ),
    "pair scored twice": (SEGMENTATION, double_pair, "error", "pair 3455_0000<--3454_0000 2 times"),
    "config shape": (SEGMENTATION, lambda c: c["expected_shape"].__setitem__(0, 30), "error", "expected_shape"),
    "broken config": (SEGMENTATION, lambda c: c.pop("eval_pairs"), "error", "eval_pairs: found no such key"),
    "counts": (DATASET, lambda c: c.update(numTraining=5), "warning", "numTraining 5, but 4 entries"),
}


@pytest.mark.parametrize("case", JSON_CASES)
def test_one_wrong_json(root, case):
    file, edit, severity, found = JSON_CASES[case]
    change_json(root / file, edit)
    findings = [f for f in check_dataset(root).findings if f.file == file]
    assert [f.severity for f in findings] == [severity]
    assert re.search(found, findings[0].found)


def test_a_pair_in_two_configs(root):
    other = pair("3485_0000", "3484_0000")
    change_json(root / SEGMENTATION, lambda c: c["eval_pairs"].append(other))
    errors = check_dataset(root).errors
    assert [f.file for f in errors] == [f"{LANDMARK}, {SEGMENTATION}"]
    assert errors[0].found == "pair 3485_0000<--3484_0000 in 2 configs"


def test_two_configs_of_one_split(root):
    shutil.copy(root / SEGMENTATION, root / SEGMENTATION.replace("VAL", "TEST"))
    assert any(f.found == "2 configs for in-domain" for f in check_dataset(root).errors)


def test_a_pair_with_itself_and_a_repeated_one(root):
    def edit(content):
        content["validation"] += [pair("3454_0000", "3454_0000"), pair("3455_0000", "3454_0000")]

    change_json(root / DATASET, edit)
    found = [f.found for f in check_dataset(root).errors]
    assert found == ["pair 3455_0000<--3454_0000 2 times", "imagesVal/LUMIRMRI_3454_0000.nii.gz paired with itself"]


def test_two_pairs_with_one_field_name(root):
    file = shutil.copy(root / FIXED, root / "imagesVal/OTHER_3455_0000.nii.gz")
    change(file, set_at((16, 20, 17), 9))
    other = {"fixed": f"./imagesVal/{file.name}", "moving": pair("3455_0000", "3454_0000")["moving"]}
    change_json(root / DATASET, lambda c: c["validation"].append(other))
    assert [f.found for f in check_dataset(root).errors] == [
        "2 pairs whose field is disp_3455_3454.nii.gz: 3455_0000<--3454_0000, 3455_0000<--3454_0000"
    ]


def test_names_paths_and_repeated_entries(root):
    def edit(content):
        content["training"] += [{"image": "./imagesTr/brain.nii.gz"}, {"image": "../x/LUMIRMRI_0001_0000.nii.gz"}]
        content["training"] += [content["training"][0]]

    change_json(root / DATASET, edit)
    found = [f.found for f in check_dataset(root).findings]
    assert found == [
        "a name without subject and modality",
        "a path that leads out of the dataset folder",
        "no such file",
        "numTraining 4, but 7 entries",
        "listed 2 times for training",
    ]


def test_a_subject_in_training_and_validation(root):
    change_json(root / DATASET, lambda c: c["training"].append({"image": f"./{FIXED}"}) or c.pop("numTraining"))
    errors = check_dataset(root).errors
    assert [(f.file, f.found) for f in errors] == [(FIXED, f"subject 3455 is also in training: {FIXED}")]


def test_a_validation_image_under_a_training_number(root):
    change(root / FIXED, dtype=np.int16)  # other bytes, the same voxels
    shutil.copy(root / FIXED, root / TRAIN)
    errors = check_dataset(root).errors
    assert [(f.file, f.found) for f in errors] == [(TRAIN, f"the same voxels as {FIXED}")]
    assert "Remove it from training" in errors[0].remedy


def test_a_training_image_twice(root):
    shutil.copy(root / "imagesTr/LUMIRMRI_0000_0000.nii.gz", root / TRAIN)
    report = check_dataset(root)
    assert [f.found for f in report.findings] == [f"the same voxels as {TRAIN}"]
    assert report.errors == []


def test_everything_is_listed_at_once_errors_first(root):
    for case in ("affine", "touches the border", "absent labels", "fractional landmarks"):
        file, damage, _, _ = VOLUME_CASES[case]
        damage(root / file)
    report = check_dataset(root)
    findings = [f for f in report.findings if not says_dtype(f)]
    assert [f.severity for f in findings] == ["error"] * 2 + ["warning"] * 2
    assert {f.file for f in findings} == {FIXED, TRAIN, LABELS, LANDMARKS_FIXED}


def test_other_axes_everywhere_are_a_remark(root):
    for path in root.glob("*/*.nii.gz"):
        change(path, affine=FLIPPED)
    assert [(f.severity, f.found) for f in check_dataset(root).findings] == [("warning", "axes LAS in most images")]


def test_a_dataset_without_configs(root):
    for path in root.glob("*_evaluation_config.json"):
        path.unlink()
    assert [f.found for f in check_dataset(root).findings] == ["no *_evaluation_config.json"]


def test_the_facts_of_a_task(root):
    for path in root.glob("images*/*.nii.gz"):
        change(path, affine=SPACED)
    found = {f.file: f.found for f in check_dataset(root, task="LUMIR25").errors if f.file.endswith("json")}
    everything = [f"{f.file}: {f.found}" for f in check_dataset(root, task="LUMIR25").errors]
    assert f"{DATASET}: tensorImageShape (32, 40, 34)" in everything
    assert any("4 training images; missing 0004_0000, 0005_0000" in text for text in everything)
    assert any("4 validation pairs; missing 3486_0000<--3485_0000" in text for text in everything)
    assert any("1 pairs; missing 3456_0000<--3455_0000" in text for text in everything)
    assert any("labels of DSC; missing 49, 50" in text for text in everything)
    assert sum("spacing 1 x 1 x 1.2 mm" in text for text in everything) == 12
    assert SEGMENTATION in found


def test_a_split_that_the_task_has_not(root):
    (root / SEGMENTATION).unlink()
    found = [f.found for f in check_dataset(root, task="LUMIR25").errors]
    assert "no evaluation config of in-domain" in found


def test_nifti_2_uncompressed_and_big_endian_files_are_read(root):
    def edit(content):
        content["training"] += [{"image": f"./imagesTr/LUMIRMRI_{name}_0000.nii"} for name in ("0020", "0021")]
        del content["numTraining"]

    change_json(root / DATASET, edit)
    data = np.asanyarray(nib.load(root / TRAIN).dataobj)
    nib.save(nib.Nifti2Image(np.flip(data, 1), np.eye(4)), root / "imagesTr/LUMIRMRI_0020_0000.nii")
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(np.flip(data, 2), np.eye(4), header)
    image.set_data_dtype(np.uint8)
    nib.save(image, root / "imagesTr/LUMIRMRI_0021_0000.nii")
    assert check_dataset(root).findings == ()


def test_two_workers_find_the_same(root):
    truncate(root / FIXED)
    assert check_dataset(root, workers=2) == check_dataset(root)


def test_wrong_requests(root, tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        check_dataset(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="no facts of that name"):
        check_dataset(root, task="LUMIR99")
    with pytest.raises(ManifestError, match="--workers 0"):
        check_dataset(root, workers=0)
    (root / DATASET).write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match="not a usable JSON file"):
        check_dataset(root)
