"""`lumirkit prepare` on phantom heads: from scans to a dataset folder, and labels and points back to the scan."""

import csv
import json
import shutil

import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from phantom_heads import TURNED, make_head
from scipy.ndimage import center_of_mass
from scipy.spatial.transform import Rotation
from without_extras import without_extras

from lumirkit.data_manifests.check import check_dataset
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.phantoms.brains import T2
from lumirkit.registration.volume import read_affine, read_image, read_labels, write_volume

ELSEWHERE = from_matvec(Rotation.from_euler("xyz", [-6, 3, 9], degrees=True).as_matrix(), [-8.0, 5.0, -12.0])
STRUCTURES = {35: "brain stem", 59: "thalamus", 45: "white matter"}


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def table(path, *rows):
    columns = ("subject", "contrast", "image", "mask", "labels", "landmarks")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two subjects: one with a T2w in another pose and landmarks, one that is stripped already, as MGH."""
    folder = tmp_path_factory.mktemp("scans")
    first, other_contrast = make_head(1), make_head(1, T2, ELSEWHERE @ TURNED, modality=1)
    first.write(folder, "one_T1w", ("image", "mask", "labels"))
    other_contrast.write(folder, "one_T2w")
    second = make_head(2)
    nib.save(nib.MGHImage(second.image * second.mask, second.affine), folder / "two_T1w.mgz")
    centres = center_of_mass(np.ones(first.labels.shape), first.labels, list(STRUCTURES))
    points = apply_affine(first.affine, centres)
    (folder / "one_T1w_landmarks.csv").write_text("x,y,z\n" + "\n".join(",".join(map(str, at)) for at in points) + "\n")
    return folder


@pytest.fixture(scope="module")
def root(scans, template, tmp_path_factory):
    """The dataset, made without ANTs, which other tests use."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_extras(monkeypatch)
        return make_dataset(scans, template, tmp_path_factory.mktemp("dataset"))


def make_dataset(scans, template, out):
    from lumirkit.prepare.dataset import State, prepare_dataset
    from lumirkit.prepare.parts import ValidationRule
    from lumirkit.prepare.subject import Settings

    status = prepare_dataset(scans, Settings(out, template), ValidationRule(), 1, lambda _: None)
    assert len(status.in_state(State.DONE)) == 2, status
    return out


def records(root):
    return [json.loads(path.read_text()) for path in sorted((root / "prepared").glob("*.json"))]


def test_the_folder_is_a_dataset_in_the_layout_of_the_challenge(root):
    dataset = read_dataset(find_dataset_json(root))
    names = [entry.image.name for entry in dataset.training]
    assert names == ["LUMIRMRI_0000_0000.nii.gz", "LUMIRMRI_0000_0001.nii.gz", "LUMIRMRI_0001_0000.nii.gz"]
    assert not check_dataset(root).errors
    for entry in dataset.training:
        image = nib.load(root / entry.image)
        voxels = np.asarray(image.dataobj)
        assert voxels.dtype == np.uint8
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), 1)
        brain = voxels[voxels > 0]
        assert 1e6 < brain.size < 1.8e6
        assert np.mean(brain == 255) == pytest.approx(0.002, abs=0.002)


def test_brains_fill_the_template_and_their_structures_lie_where_its_do(root, template):
    filled = nib.load(template)
    for name in ("LUMIRMRI_0000_0000.nii.gz", "LUMIRMRI_0001_0000.nii.gz"):
        image = nib.load(root / "imagesTr" / name)
        there = nib.processing.resample_from_to(filled, image, order=0).get_fdata() > 0
        assert dice(np.asarray(image.dataobj) > 0, there) > 0.93
    for record in records(root):
        assert all(scan["quality"]["overlap"] > 0.93 and scan["quality"]["symmetry"] > 0.9 for scan in record["scans"])


def test_what_was_done_is_on_record(root):
    one, two = records(root)
    assert [scan["brain"] for scan in one["scans"]] == [
        "mask of the user: one_T1w_mask.nii.gz",
        "mask of one_T1w.nii.gz",
    ]
    assert two["scans"][0]["brain"] == "none: the image was a brain already"
    assert "not corrected: ANTs is not installed" in two["scans"][0]["bias"]
    assert "mutual information" in two["scans"][0]["alignment"]
    assert one["scans"][1]["alignment"].startswith("rigid by mutual information at 4 mm onto one_T1w.nii.gz")


def test_another_contrast_lies_on_its_t1w(root):
    one, other = (read_image(root / "imagesTr" / f"LUMIRMRI_0000_000{n}.nii.gz").data for n in (0, 1))
    assert dice(one > 0, other > 0) > 0.985
    labels = read_labels(root / "labelsTr" / "LUMIRMRI_0000_0001.nii.gz")
    fluid, white = (other[np.isin(labels, ids)].mean() for ids in ((51, 52), (44, 45)))
    assert fluid > 1.8 * white  # T2w, read at the right places: the ventricles are narrow


def test_labels_and_points_find_their_way_back_to_the_scan(root, scans, lumirkit, tmp_path):
    transform = root / "transforms" / "LUMIRMRI_0000_0000.txt"
    scan, labels = scans / "one_T1w.nii.gz", root / "labelsTr" / "LUMIRMRI_0000_0000.nii.gz"
    back = tmp_path / "back.nii.gz"
    ended = lumirkit("warp", f"[{transform},1]", "--moving", labels, "--like", scan, "--labels", "--out", back)
    assert ended.returncode == 0, ended.stderr
    native = read_labels(scans / "one_T1w_labels.nii.gz")
    assert dice(read_labels(back) > 0, native > 0) > 0.95
    for label in STRUCTURES:
        assert dice(read_labels(back) == label, native == label) > 0.9
    landmarks = root / "landmarksTr" / "LUMIRMRI_0000_0000.nii.gz"
    map_ = read_labels(landmarks)
    centres = apply_affine(read_affine(landmarks), center_of_mass(np.ones(map_.shape), map_, [1, 2, 3]))
    rows = [",".join(map(str, at)) for at in centres]
    (tmp_path / "points.csv").write_text("x,y,z\n" + "\n".join(rows) + "\n")
    there = tmp_path / "there.csv"
    ended = lumirkit("warp", transform, "--points", tmp_path / "points.csv", "--out", there)
    assert ended.returncode == 0, ended.stderr
    found, given = (np.loadtxt(path, delimiter=",", skiprows=1) for path in (there, scans / "one_T1w_landmarks.csv"))
    assert np.abs(found - given).max() < 1.0  # a landmark is rounded to its voxel of 1 mm
    image = tmp_path / "image.nii.gz"
    ended = lumirkit("warp", transform, "--moving", scan, "--like", labels, "--out", image)
    assert ended.returncode == 0, ended.stderr
    prepared = read_image(root / "imagesTr" / "LUMIRMRI_0000_0000.nii.gz").data
    again = read_image(image).data
    assert np.corrcoef(prepared[prepared > 0], again[prepared > 0])[0, 1] > 0.99


def test_the_page_shows_every_image_and_nothing_from_elsewhere(root):
    page = (root / "quality.html").read_text()
    assert page.count("data:image/webp;base64,") == 3
    assert "3 images of 2 subjects" in page
    assert not [word for word in ("<script", "<link", 'src="http', "url(http") if word in page]


def test_a_second_run_keeps_all_and_a_third_makes_what_changed(root, scans, template, lumirkit, tmp_path, monkeypatch):
    without_extras(monkeypatch)
    again, own_scans = tmp_path / "again", tmp_path / "scans"
    shutil.copytree(root, again)
    shutil.copytree(scans, own_scans)
    command = ("prepare", own_scans, "--out", again, "--template", template)
    times = {path: path.stat().st_mtime_ns for path in again.glob("*Tr/*")}
    assert "0 done, 2 kept, 0 failed" in lumirkit(*command).stdout
    assert times == {path: path.stat().st_mtime_ns for path in again.glob("*Tr/*")}
    (again / "imagesTr" / "LUMIRMRI_0001_0000.nii.gz").unlink()
    (own_scans / "one_T1w.nii.gz").write_text("no image any more")
    ended = lumirkit(*command)
    assert ended.returncode == 1
    assert "1 done, 0 kept, 1 failed" in ended.stdout
    assert "failed: one: " in ended.stderr
    assert "one_T1w.nii.gz: not a readable NIfTI image" in ended.stderr
    assert [entry.image.name for entry in read_dataset(find_dataset_json(again)).training] == [
        "LUMIRMRI_0001_0000.nii.gz"
    ]
    assert not list(again.glob("*/LUMIRMRI_0000_*"))  # nothing of what was one before
    assert "one_T1w.nii.gz: not a readable NIfTI" in (again / "quality.html").read_text()
    assert not check_dataset(again).errors


def test_bad_subjects_cost_no_other(root, scans, template, lumirkit, tmp_path, monkeypatch):
    without_extras(monkeypatch)
    bad = tmp_path / "bad"
    bad.mkdir()
    head = make_head(2)
    half = np.where(np.arange(head.mask.shape[2]) < head.mask.shape[2] // 2, head.mask, 0).astype(np.uint8)
    write_volume(bad / "half_mask.nii.gz", half, head.affine)
    write_volume(bad / "inverted_mask.nii.gz", (1 - head.mask).astype(np.uint8), head.affine)
    path = head.write(bad, "head_T1w")
    shutil.copy(scans / "two_T1w.mgz", bad)
    rows = [
        {"subject": "half", "contrast": "T1w", "image": path, "mask": bad / "half_mask.nii.gz"},
        {"subject": "inverted", "contrast": "T1w", "image": path, "mask": bad / "inverted_mask.nii.gz"},
        {"subject": "skull", "contrast": "T1w", "image": path},
        {"subject": "t2", "contrast": "T2w", "image": path},
        {"subject": "missing", "contrast": "T1w", "image": bad / "missing.nii.gz"},
        *({"subject": "twice", "contrast": "T1w", "image": path} for _ in range(2)),
        {"subject": "good", "contrast": "T1w", "image": bad / "two_T1w.mgz"},
    ]
    out = tmp_path / "out"
    ended = lumirkit("prepare", table(bad / "scans.csv", *rows), "--out", out, "--template", template)
    assert ended.returncode == 1
    assert "1 done, 0 kept, 6 failed" in ended.stdout
    status = json.loads((out / "prepare_status.json").read_text())["subjects"]
    reasons = {subject["name"]: subject["reason"] for subject in status if subject["state"] == "failed"}
    assert "half a head" in reasons["half"]
    assert "litres are brain" in reasons["inverted"] or "looks inverted" in reasons["inverted"]
    assert "install" in reasons["skull"].lower()
    assert "found a whole head without brain mask (T2w); expected a mask, or hd-bet" in reasons["t2"]
    assert "No such file" in reasons["missing"]
    assert "found 2 T1w images" in reasons["twice"]
    assert not any(subject["traceback"] for subject in status)
    assert [record["name"] for record in records(out)] == ["good"]
    assert not check_dataset(out).errors


def test_ants_aligns_and_corrects_where_it_is_installed(scans, template, lumirkit, tmp_path):
    pytest.importorskip("ants")
    rows = {"subject": "two", "contrast": "T1w", "image": scans / "two_T1w.mgz"}
    out = tmp_path / "out"
    ended = lumirkit("prepare", table(tmp_path / "scans.csv", rows), "--out", out, "--template", template)
    assert ended.returncode == 0, ended.stderr
    ((scan,),) = (record["scans"] for record in records(out))
    assert scan["bias"].startswith("N4 of antspyx")
    assert scan["alignment"].startswith("affine of antspyx")
    assert scan["quality"]["overlap"] > 0.93  # what the kit's own affine reaches too


def test_validation_subjects_become_scored_pairs(scans, template, lumirkit, tmp_path, monkeypatch):
    without_extras(monkeypatch)
    brains = tmp_path / "brains"
    brains.mkdir()
    for number in (3, 4):
        head = make_head(number)
        write_volume(brains / f"s{number}_T1w.nii.gz", head.image * head.mask, head.affine)
        write_volume(brains / f"s{number}_T1w_labels.nii.gz", head.labels, head.affine)
    out = tmp_path / "out"
    command = ("prepare", brains, "--out", out, "--template", template, "--validation")
    assert lumirkit(*command, 1).returncode == 2
    assert not out.exists()
    assert lumirkit(*command, 2).returncode == 0
    assert not check_dataset(out).errors
    pairs = read_dataset(find_dataset_json(out)).validation
    assert [pair.case_name for pair in pairs] == ["0000_0000<--0001_0000", "0001_0000<--0000_0000"]
    ended = lumirkit("baseline", "zero", "--dataset", out, "--out", tmp_path / "fields")
    assert ended.returncode == 0, ended.stderr
    metrics = tmp_path / "metrics.json"
    assert (
        lumirkit("evaluate", "--ground-truth", out, "--fields", tmp_path / "fields", "--out", metrics).returncode == 0
    )
    scored = json.loads(metrics.read_text())
    assert "NaN" not in metrics.read_text()
    assert scored["guarded"]
