"""Bad scans, masks and tables: each gets one sentence that names the file, and no other subject is lost.

What belongs to readers alone is in test_read_head.py, test_dicom.py and test_sources.py; what needs a whole run is in
test_prepare.py.
"""

import gzip
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from phantom_heads import PAD, make_head
from without_extras import without_extras

from lumirkit.base.errors import KitError, VolumeError
from lumirkit.data_manifests.check import check_dataset
from lumirkit.prepare.find_subjects import find_subjects
from lumirkit.prepare.frame import labels_in_frame, landmarks_in_frame
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import write_volume


@pytest.fixture(scope="module")
def head():
    return make_head(2)


def nifti(path, data, affine):
    write_volume(path, data, affine)
    return path


def scaled(affine, factor):
    return affine @ np.diag([factor, factor, factor, 1.0])


def flat(head, folder):
    """A head whose header was emptied: no axis has a direction."""
    image = nib.Nifti1Image(head.image, head.affine)
    image.header["qform_code"], image.header["sform_code"] = 0, 2
    for row in "xyz":
        image.header[f"srow_{row}"] = 0
    path = folder / "image.nii"
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[252:256] = (0).to_bytes(2, "little") + (2).to_bytes(2, "little")  # codes of qform and sform
    content[280:328] = bytes(48)  # the sform
    path.write_bytes(content)
    return path


def cut(head, folder):
    path = nifti(folder / "image.nii.gz", head.image, head.affine)
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def empty(head, folder):
    path = folder / "image.nii.gz"
    path.touch()
    return path


def zipped_under_a_plain_name(head, folder):
    path = nifti(folder / "image.nii.gz", head.image, head.affine)
    return path.rename(folder / "image.nii")


def plain_under_the_name_of_a_picture(head, folder):
    path = nifti(folder / "image.nii.gz", head.image, head.affine)
    (folder / "image.jpg").write_bytes(gzip.decompress(path.read_bytes()))
    return folder / "image.jpg"


def image_and_mask(image, mask=None, affine=None, mask_affine=None):
    """What makes a head's files of it: the image, and a mask where there is one."""

    def make(head, folder):
        place = head.affine if affine is None else affine(head)
        path = nifti(folder / "image.nii.gz", image(head), place)
        if mask is None:
            return path
        return path, nifti(folder / "mask.nii.gz", mask(head), place if mask_affine is None else mask_affine(head))

    return make


def bottle(head):
    """Water with noise, of a litre and a half."""
    at = np.moveaxis(np.indices(head.image.shape), 0, -1) - np.array(head.image.shape) / 2
    inside = (np.hypot(at[..., 0], at[..., 1]) < 19) & (np.abs(at[..., 2]) < 19)
    noise = np.random.default_rng(8).normal(0, 4, inside.shape)
    return np.where(inside, 180 + noise, 0).astype(np.uint8)


def faceless(head):
    """The front third is blanked, as tools do that remove faces; the brain is whole."""
    front = np.arange(head.image.shape[0]) < PAD
    return np.where(front[:, None, None] & (head.mask == 0), 0, head.image).astype(np.uint8)


BAD = {
    "bottle": (image_and_mask(bottle), "image.nii.gz: .*nearly the same"),
    "faceless": (image_and_mask(faceless), "image.nii.gz: found a whole head without brain mask"),
    "huge": (image_and_mask(lambda h: h.image, affine=lambda h: scaled(h.affine, 100)), "image.nii.gz: .*at most"),
    "tiny": (image_and_mask(lambda h: h.image, affine=lambda h: scaled(h.affine, 1e-3)), "image.nii.gz: .*at least 60"),
    "flat": (flat, "image.nii: found the affine .* which has no inverse"),
    "cut": (cut, "image.nii.gz: .*(damaged|truncated)"),
    "empty": (empty, "image.nii.gz: .*(empty|not a readable)"),
    "zipped": (zipped_under_a_plain_name, "image.nii: "),
    "picture": (plain_under_the_name_of_a_picture, "image.jpg: "),
    "mask empty": (image_and_mask(lambda h: h.image, lambda h: 0 * h.mask), "mask.nii.gz: no voxel is above 0"),
    "mask whole": (image_and_mask(lambda h: h.image, lambda h: 0 * h.mask + 1), "image.nii.gz: .*litres are brain"),
    "mask elsewhere": (
        image_and_mask(lambda h: h.image, lambda h: h.mask, mask_affine=lambda h: from_matvec(np.eye(3), (900, 0, 0))),
        "mask.nii.gz: lies elsewhere than",
    ),
    "mask of shares": (
        image_and_mask(lambda h: h.image, lambda h: 7.3 * h.mask.astype(np.float32)),
        "mask.nii.gz: found values from 0 to 7.3",
    ),
}


@pytest.fixture(scope="module")
def outcome(head, template, tmp_path_factory):
    """One run over all of them and one good subject."""
    from lumirkit.prepare.dataset import prepare_dataset
    from lumirkit.prepare.parts import ValidationRule
    from lumirkit.prepare.subject import Settings

    folder, rows = tmp_path_factory.mktemp("scans"), []
    for name, (make, _) in BAD.items():
        own = folder / name.replace(" ", "_")
        own.mkdir()
        made = make(head, own)
        image, mask = made if isinstance(made, tuple) else (made, "")
        rows.append(f"{name},T1w,{image},{mask}")
    rows.append(f"good,T1w,{nifti(folder / 'good.nii.gz', head.image * head.mask, head.affine)},")
    table = folder / "scans.csv"
    table.write_text("subject,contrast,image,mask\n" + "\n".join(rows) + "\n", encoding="utf-8-sig")  # with a BOM
    root = folder / "dataset"  # inside the folder of the scans
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_extras(monkeypatch)
        status = prepare_dataset(table, Settings(root, template), ValidationRule(), 1, lambda _: None)
    return root, {each.name: each for each in status.subjects}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_in_one_sentence(outcome, name):
    root, subjects = outcome
    found = subjects[name]
    assert found.state == "failed"
    assert re.search(BAD[name][1], found.reason), found.reason
    assert not found.traceback
    assert "\n" not in found.reason
    assert not list(root.glob(f"*/*{found.number:04d}_000*"))


def test_the_good_one_is_there(outcome):
    root, subjects = outcome
    assert subjects["good"].state == "done"
    assert not check_dataset(root).errors
    (record,) = (root / "prepared").glob("*.json")
    assert json.loads(record.read_text())["name"] == "good"


def test_a_head_without_its_face_is_prepared_by_its_mask(head, tmp_path):
    from lumirkit.prepare.read_head import read_head, read_mask

    path, mask = image_and_mask(faceless, lambda h: h.mask)(head, tmp_path)
    inside = read_mask(mask, read_head(path))
    np.testing.assert_array_equal(inside, head.mask > 0)


FRAME = Grid((60, 70, 60), np.diag([3.0, 3.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("values", "place", "said"),
    [
        (np.full((60, 70, 60), 3.4, np.float32), FRAME.affine, "are not whole numbers, the first is 3.4"),
        (np.full((20, 20, 20), 3, np.uint8), from_matvec(np.eye(3), (900, 0, 0)), "no id of it lies in the brain's"),
        (np.zeros((60, 70, 60), np.uint8), FRAME.affine, "no id of it lies in the brain's"),
    ],
    ids=["shares", "elsewhere", "none"],
)
def test_labels_that_are_none_of_this_head_are_refused(tmp_path, values, place, said):
    path = nifti(tmp_path / "labels.nii.gz", values, place)
    with pytest.raises(VolumeError, match=f"labels.nii.gz: .*{said}"):
        labels_in_frame(path, np.eye(4), FRAME)


def test_labels_on_a_grid_of_their_own_are_taken_by_their_place(tmp_path):
    fine = Grid((90, 90, 90), from_matvec(np.eye(3), (30, 30, 30)))
    path = nifti(tmp_path / "labels.nii.gz", np.full(fine.shape, 4, np.uint8), fine.affine)
    found = labels_in_frame(path, np.eye(4), FRAME)
    assert np.argwhere(found).min() == 10
    assert np.argwhere(found).max() == 39


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,z\n30,30,30\n900,30,30\n", "landmark 2 lies outside the frame"),
        ("x,y,z\n", "found (0 landmarks|no points)"),
        ("x,y,z\n30,nan,30\n", "landmark 1 has a coordinate that is no number"),
    ],
)
def test_landmarks_that_are_none_of_this_head_are_refused(tmp_path, text, said):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(KitError, match=f"points.csv.*{said}"):
        landmarks_in_frame(tmp_path / "points.csv", np.eye(4), FRAME)


def test_a_table_with_semicolons_says_so(tmp_path):
    (tmp_path / "scans.csv").write_text("subject;contrast;image\na;T1w;a.nii\n")
    with pytest.raises(KitError, match=r"subject;contrast;image.*commas"):
        find_subjects(tmp_path / "scans.csv")


def test_a_place_that_cannot_hold_the_dataset_is_refused(head, template, tmp_path, lumirkit):
    scans = tmp_path / "scans"
    scans.mkdir()
    nifti(scans / "a.nii.gz", head.image * head.mask, head.affine)
    (tmp_path / "file").touch()
    theirs = tmp_path / "theirs"
    (theirs / "imagesTr").mkdir(parents=True)
    shutil.copy(scans / "a.nii.gz", theirs / "imagesTr" / "LUMIRMRI_0000_0000.nii.gz")
    before = {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
    for out, said in (
        (scans, "found the scans in the place of the dataset"),
        (tmp_path / "file" / "x", "file"),
        (theirs, "that `prepare` did not make"),
    ):
        ended = lumirkit("prepare", scans, "--out", out, "--template", template)
        assert ended.returncode == 2
        assert said in ended.stderr
    assert before == {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
