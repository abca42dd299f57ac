"""What cannot be scored is named with file, found and expected; the other pairs are scored all the same."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.engine import Processes
from lumirkit.base.errors import RequestError
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import ScoringOptions, evaluate

IN_DOMAIN = "3455_0000<--3454_0000"
IN_DOMAIN_FIELD = "disp_3455_3454.nii.gz"
SHAPE = (14, 12, 10)


def overwrite(path, data, slope=None):
    image = nib.Nifti1Image(data, np.eye(4))
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def failure_of(ground_truth, fields, **options):
    """The reason of the one failed pair; the other three are scored."""
    result = evaluate(ground_truth, fields, **options)
    assert list(result.failures) == [IN_DOMAIN]
    assert len(result.cases) == 3
    assert result.aggregates == {}
    return result.failures[IN_DOMAIN]


def test_all_missing_files_are_listed_before_scoring(ground_truth, fields, monkeypatch):
    monkeypatch.setattr("lumirkit.eval.leaderboard.score_case", lambda inputs: pytest.fail("scored before the checks"))
    (fields / "disp_3485_3484.nii.gz").unlink()
    (fields / IN_DOMAIN_FIELD).unlink()
    (ground_truth / "labelsVal" / "LUMIRMRI_4033_0001.nii.gz").unlink()
    with pytest.raises(EvaluationError) as caught:
        evaluate(ground_truth, fields)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 files are missing, so nothing was scored:"
    text = "\n".join(lines)
    assert "disp_3485_3484.nii.gz: no such file; expected the displacement field of 3485_0000<--3484_0000" in text
    assert f"{IN_DOMAIN_FIELD}: no such file" in text
    assert "LUMIRMRI_4033_0001.nii.gz: no such file; expected labels for 4024_0000<--4033_0001" in text
    assert len(lines) == 4


def test_failed_pairs_are_named_in_the_json(ground_truth, fields):
    (fields / IN_DOMAIN_FIELD).write_bytes(b"not an image")
    result = evaluate(ground_truth, fields, Processes(2))
    content = json.loads(result.to_json())
    assert content["aggregates"] == {}
    assert IN_DOMAIN not in content["cases"]
    assert not content["guarded"]["complete"]
    assert "not a readable NIfTI image" in content["guarded"]["failed"][IN_DOMAIN]
    assert content["guarded"]["overall"]["DSC/dice"]["count"] == 2


def test_wrong_shape(ground_truth, fields):
    overwrite(fields / IN_DOMAIN_FIELD, np.zeros((14, 12, 9, 3), dtype=np.float32))
    reason = failure_of(ground_truth, fields)
    assert f"{IN_DOMAIN_FIELD}: found shape (14, 12, 9, 3); expected (14, 12, 10, 3) or (3, 14, 12, 10)" in reason


def test_a_field_of_itk(ground_truth, fields):
    overwrite(fields / IN_DOMAIN_FIELD, np.zeros((*SHAPE, 1, 3), dtype=np.float32))
    reason = failure_of(ground_truth, fields)
    assert f"{IN_DOMAIN_FIELD}: found shape (14, 12, 10, 1, 3), a field in the format of ITK" in reason
    assert "`lumirkit export --format challenge`" in reason


def test_a_field_that_is_packed_twice(ground_truth, fields):
    path = fields / IN_DOMAIN_FIELD
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert f"{IN_DOMAIN_FIELD}: found a gzip file inside the gzip file" in failure_of(ground_truth, fields)


@pytest.mark.parametrize("slope", [None, 0.01])
def test_integer_field(ground_truth, fields, slope):
    overwrite(fields / IN_DOMAIN_FIELD, np.ones((*SHAPE, 3), dtype=np.int16), slope)
    reason = failure_of(ground_truth, fields)
    assert f"found a field stored as int16{' with a scale factor' if slope else ''}; expected float32" in reason
    assert "Write it again from the unrounded field" in reason


def test_half_precision_type(ground_truth, fields):
    """Type 16384 is what some tools write for float16; NIfTI has no such type."""
    path = fields / IN_DOMAIN_FIELD
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[70:74] = (16384).to_bytes(2, "little") + (16).to_bytes(2, "little")
    path.write_bytes(gzip.compress(content))
    assert "not a readable NIfTI image (data code 16384 not recognized)" in failure_of(ground_truth, fields)


def test_nan_in_a_field(ground_truth, fields):
    broken = np.zeros((*SHAPE, 3), dtype=np.float32)
    broken[3, 3, 3, 1] = np.nan
    overwrite(fields / IN_DOMAIN_FIELD, broken)
    assert "the field holds NaN or inf (1 values); expected finite" in failure_of(ground_truth, fields)


def test_truncated_gzip(ground_truth, fields):
    path = fields / IN_DOMAIN_FIELD
    path.write_bytes(path.read_bytes()[:4000])
    assert "the file is damaged or truncated" in failure_of(ground_truth, fields)


def test_damaged_gzip(ground_truth, fields):
    path = fields / IN_DOMAIN_FIELD
    content = bytearray(path.read_bytes())
    content[3000:3100] = bytes(100)
    path.write_bytes(content)
    assert "while decompressing data" in failure_of(ground_truth, fields)


@pytest.mark.parametrize("folder", ["labelsVal", "imagesVal"])
def test_map_or_image_off_the_grid(ground_truth, fields, folder):
    overwrite(ground_truth / folder / "LUMIRMRI_3455_0000.nii.gz", np.ones((5, 6, 7), dtype=np.uint8))
    reason = failure_of(ground_truth, fields)
    assert "LUMIRMRI_3455_0000.nii.gz: found shape (5, 6, 7); expected (14, 12, 10)" in reason


def test_landmark_map_without_landmarks(ground_truth, fields):
    overwrite(ground_truth / "landmarksVal" / "LUMIRMRI_3485_0000.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    failures = evaluate(ground_truth, fields).failures
    assert "the fixed landmark map has no label above 0" in failures["3485_0000<--3484_0000"]


def test_brain_at_the_border_only(ground_truth, fields):
    image = np.zeros(SHAPE, dtype=np.uint8)
    image[0] = 1
    overwrite(ground_truth / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz", image)
    assert "3455_0000.nii.gz: the mask has no voxel away from the border" in failure_of(ground_truth, fields)


def test_half_precision_is_scored_with_a_warning(ground_truth, fields):
    path = fields / IN_DOMAIN_FIELD
    rounded = np.asarray(nib.load(path).dataobj).astype(np.float16).astype(np.float32)
    overwrite(path, rounded)
    result = evaluate(ground_truth, fields)
    assert not result.failures
    warnings = result.guarded["warnings"]
    assert list(warnings) == [IN_DOMAIN]
    assert "every value is a float16 number; the challenge asks for full precision" in warnings[IN_DOMAIN][0]
    assert result.warnings == warnings[IN_DOMAIN]


def test_float64_and_scaled_float_fields_read_as_float32_ones(ground_truth, fields):
    expected = evaluate(ground_truth, fields).cases
    for path in fields.iterdir():
        overwrite(path, np.asarray(nib.load(path).dataobj).astype(np.float64) / 2, slope=2.0)
    assert evaluate(ground_truth, fields).cases == expected


def test_wrong_requests(ground_truth, fields, tmp_path):
    with pytest.raises(EvaluationError, match="expected the displacement fields"):
        evaluate(ground_truth, tmp_path / "absent")
    with pytest.raises(EvaluationError, match="no such folder; expected a ground-truth folder"):
        evaluate(tmp_path / "absent", fields)
    with pytest.raises(RequestError, match="found 0 workers; expected at least 1"):
        Processes(0)


@pytest.mark.parametrize("broken", [np.diag([1.0, 1, 0, 1]), np.diag([1.0, np.nan, 1, 1])], ids=["flat", "NaN"])
def test_without_a_place_nothing_is_measured_in_mm(ground_truth, fields, broken):
    """The leaderboard's measures are in voxels and stay as they were; the others say why they are not there."""
    expected = evaluate(ground_truth, fields, options=ScoringOptions(designs=True))
    for path in ("landmarksVal/LUMIRMRI_3485_0000.nii.gz", "labelsVal/LUMIRMRI_3455_0000.nii.gz"):
        header = nib.Nifti1Header()
        header.set_sform(broken, 2)
        image = nib.Nifti1Image(np.asarray(nib.load(ground_truth / path).dataobj), None, header)
        nib.save(image, ground_truth / path)
    found = evaluate(ground_truth, fields, options=ScoringOptions(designs=True))
    assert found.cases == expected.cases
    for pair, measure in (("3485_0000<--3484_0000", "TRE_lm/tre_mm"), (IN_DOMAIN, "DSC/centroid_mm")):
        assert pair in expected.guarded["overall"][measure]["nan"] or expected.guarded["overall"][measure]["count"] > 0
        (reason,) = [cause for cause in found.guarded["overall"][measure]["nan"][pair] if "no inverse" in cause]
        assert reason in found.warnings
        assert (
            found.guarded["overall"][measure.replace("_mm", "_vox")]
            == (expected.guarded["overall"][measure.replace("_mm", "_vox")])
        )
