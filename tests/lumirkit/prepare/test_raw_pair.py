"""Two phantom heads, registered as they were scanned."""

import shutil

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from phantom_heads import TURNED, make_head
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from without_extras import without_extras

from lumirkit.base.errors import RequestError
from lumirkit.prepare.aligned_scan import onto_template
from lumirkit.prepare.frame import read_template
from lumirkit.prepare.raw_pair import register_raw
from lumirkit.prepare.sources import Contrast, Scan
from lumirkit.prepare.stripping import Stripping
from lumirkit.registration.any_pair.files import FileOptions
from lumirkit.registration.deformation import read_deformation
from lumirkit.registration.device import Place
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import Volume, read_image, read_labels
from lumirkit.submission.shipped_weights import SHIPPED_WEIGHTS

ELSEWHERE = from_matvec(Rotation.from_euler("xyz", [-5, 9, -7], degrees=True).as_matrix(), [-6.0, 14.0, 9.0])
WEIGHTS = [SHIPPED_WEIGHTS]
STRUCTURES = (35, 59, 60, 45, 44)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Two heads in two poses, with masks and labels."""
    folder = tmp_path_factory.mktemp("heads")
    for number, place in ((1, TURNED), (2, ELSEWHERE)):
        make_head(number, place=place).write(folder, f"{number}_T1w", ("image", "mask", "labels"))
    return folder


@pytest.fixture(scope="module")
def registered(heads, template, tmp_path_factory):
    """The field and the warped head, made without ANTs."""
    out = tmp_path_factory.mktemp("field")
    options = FileOptions(heads / "1_T1w_mask.nii.gz", heads / "2_T1w_mask.nii.gz")
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_extras(monkeypatch)
        register_raw(
            *(heads / f"{number}_T1w.nii.gz" for number in (1, 2)),
            out / "field.nii.gz",
            WEIGHTS,
            "cpu",
            "float32",
            options,
            out / "moved.nii.gz",
            lambda _: None,
            template,
        )
    return out


def test_the_field_joins_both_affines_and_what_the_network_finds_in_the_frame(heads, template, registered, monkeypatch):
    """Point by point, through the steps that a user would chain."""
    without_extras(monkeypatch)
    target = read_template(template)
    frame = target.frame
    scans = [Scan(Contrast.T1W, heads / f"{n}_T1w.nii.gz", heads / f"{n}_T1w_mask.nii.gz") for n in (1, 2)]
    fixed, moving = (onto_template(scan, target.brain, Stripping.AUTO) for scan in scans)
    images = [
        Volume("", each.in_frame(frame, target.filled).voxels.astype(np.float32), frame.affine)
        for each in (fixed, moving)
    ]
    disp_vox = Predictor(WEIGHTS, Place(torch.device("cpu")))(*images)
    at_mm = apply_affine(fixed.head.affine, np.argwhere(fixed.brain.inside)[::97])
    at = apply_affine(np.linalg.inv(fixed.alignment.matrix @ frame.affine), at_mm)
    there = at + np.stack([map_coordinates(disp_vox[..., axis], at.T, order=1) for axis in range(3)], axis=-1)
    there_mm = apply_affine(moving.alignment.matrix @ frame.affine, there)
    images = FixedAndMoving(scans[0].image, scans[1].image)
    found_mm = read_deformation(registered / "field.nii.gz", images).warp_points(at_mm)
    assert np.abs(found_mm - there_mm).max() < 0.01


def test_ants_applies_the_field_to_the_heads_as_they_were_scanned(heads, registered):
    ants = pytest.importorskip("ants")
    fixed, moving = (ants.image_read(str(heads / f"{number}_T1w.nii.gz")) for number in (1, 2))
    warped = ants.apply_transforms(fixed, moving, [str(registered / "field.nii.gz")]).numpy()
    moved = read_image(registered / "moved.nii.gz").data
    assert moved.shape == warped.shape
    assert np.abs(warped - moved).max() < 0.5  # of 230


def test_labels_land_on_those_of_the_fixed_head(heads, registered, lumirkit, tmp_path):
    labels = [heads / f"{number}_T1w_labels.nii.gz" for number in (1, 2)]
    warped = tmp_path / "warped.nii.gz"
    ended = lumirkit("warp", registered / "field.nii.gz", "--moving", labels[1], "--labels", "--out", warped)
    assert ended.returncode == 0, ended.stderr
    found, wanted = (read_labels(path) for path in (warped, labels[0]))
    for label in STRUCTURES:
        one, other = found == label, wanted == label
        assert 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)) > 0.6, label


@pytest.mark.parametrize("asked", [{"affine": True}, {"as_is": True}])
def test_what_brains_alone_can_have_is_refused(heads, tmp_path, asked):
    with pytest.raises(RequestError, match=f"--raw with --{next(iter(asked)).replace('_', '-')}: expected"):
        register_raw(
            heads / "1_T1w.nii.gz", heads / "2_T1w.nii.gz", tmp_path / "a.nii.gz", [], options=FileOptions(**asked)
        )


@pytest.mark.parametrize(("full", "needed_mb"), [("field", r"4\.2"), ("moved", r"1\.4")])
def test_a_full_disk_is_told_before_any_brain_is_looked_for(heads, tmp_path, monkeypatch, full, needed_mb):
    outputs = {name: tmp_path / name / f"{name}.nii.gz" for name in ("field", "moved")}
    for path in outputs.values():
        path.parent.mkdir()
    usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: usage(folder)._replace(free=0 if folder.name == full else 10**12)
    )
    monkeypatch.setattr("lumirkit.prepare.raw_pair.onto_template", lambda *_: pytest.fail("a brain was looked for"))
    paths = [heads / f"{number}_T1w.nii.gz" for number in (1, 2)]
    with pytest.raises(
        RequestError, match=rf"{full}\.nii\.gz: found 0\.0 MB of room on its disk; expected {needed_mb} MB"
    ):
        register_raw(*paths, outputs["field"], WEIGHTS, moved=outputs["moved"])


def test_a_head_that_cannot_be_stripped_leaves_nothing(heads, tmp_path, lumirkit, monkeypatch):
    without_extras(monkeypatch)
    out = tmp_path / "field.nii.gz"
    ended = lumirkit("register", heads / "1_T1w.nii.gz", heads / "2_T1w.nii.gz", out, "--raw")
    assert ended.returncode == 2
    assert "1_T1w.nii.gz: found a whole head without brain mask" in ended.stderr
    assert not out.exists()
