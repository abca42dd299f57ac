"""DICOM series, written by pydicom from a volume whose voxels and place are known."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import VolumeError
from lumirkit.prepare import read_head as reading
from lumirkit.prepare.dicom import read_series
from lumirkit.prepare.find_subjects import find_subjects
from lumirkit.prepare.read_head import read_head
from lumirkit.prepare.record import hash_of_path
from lumirkit.prepare.sources import Contrast

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")

SHAPE = (14, 17, 12)
SPACING_MM = (6.0, 5.5, 7.0)
OBLIQUE = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix() @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
AFFINE = from_matvec(OBLIQUE @ np.diag(SPACING_MM), (31.5, -42.25, 18.75))
DATA = np.random.default_rng(5).integers(0, 900, SHAPE)
SLOPE, INTERCEPT = 2.5, 3.0


def write_series(folder, data=DATA, affine=AFFINE, modality="MR", slices=None, series="1", description="t1 mprage"):
    """Write the third axis as slices; names tell nothing of the order."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    columns = lps[:3, :3] / steps
    for k in range(data.shape[2]) if slices is None else slices:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{series}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        each = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        each.SOPClassUID, each.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        each.Modality, each.SeriesDescription, each.PatientName = modality, description, "Nobody"
        each.StudyInstanceUID, each.SeriesInstanceUID = "1.2.3", f"1.2.3.{series}"
        each.InstanceNumber = (7 * k) % data.shape[2]
        each.ImagePositionPatient = [round(float(mm), 6) for mm in apply_affine(lps, (0, 0, k))]
        each.ImageOrientationPatient = [round(float(number), 9) for number in (*columns[:, 0], *columns[:, 1])]
        each.PixelSpacing, each.SliceThickness = [float(steps[1]), float(steps[0])], float(steps[2])
        each.Rows, each.Columns = data.shape[1], data.shape[0]
        each.SamplesPerPixel, each.PhotometricInterpretation = 1, "MONOCHROME2"
        each.BitsAllocated, each.BitsStored, each.HighBit, each.PixelRepresentation = 16, 16, 15, 0
        each.RescaleSlope, each.RescaleIntercept = SLOPE, INTERCEPT
        each.PixelData = np.ascontiguousarray(data[:, :, k].T.astype("<u2")).tobytes()
        each.save_as(folder / f"{series}_{(5 * k) % 97:02d}", enforce_file_format=True)
    return folder


def test_values_and_places_are_those_of_the_volume(tmp_path):
    found = read_series(write_series(tmp_path / "a"))
    voxels = np.asarray(found.dataobj)
    np.testing.assert_allclose(voxels.sum(), (DATA * SLOPE + INTERCEPT).sum(), rtol=1e-6)
    from_found = np.linalg.inv(found.affine) @ AFFINE
    at = np.rint(apply_affine(from_found, np.argwhere(np.ones(SHAPE)))).astype(int)
    np.testing.assert_allclose(voxels[tuple(at.T)], DATA.ravel() * SLOPE + INTERCEPT, rtol=1e-6)
    np.testing.assert_allclose(
        apply_affine(found.affine, at), apply_affine(AFFINE, np.argwhere(np.ones(SHAPE))), atol=1e-3
    )


def test_it_is_read_as_the_nifti_file_is(tmp_path):
    nib.save(nib.Nifti1Image((DATA * SLOPE + INTERCEPT).astype(np.float32), AFFINE), tmp_path / "a.nii.gz")
    one, other = read_head(write_series(tmp_path / "a")), read_head(tmp_path / "a.nii.gz")
    canonical = [nib.as_closest_canonical(nib.Nifti1Image(each.data, each.affine)) for each in (one, other)]
    np.testing.assert_allclose(canonical[0].affine, canonical[1].affine, atol=1e-4)
    np.testing.assert_allclose(*(each.get_fdata() for each in canonical), rtol=1e-6)


def three_planes(folder):
    for number, axes in enumerate(((0, 1, 2), (1, 2, 0), (0, 2, 1))):
        turned = from_matvec(AFFINE[:3, list(axes)], AFFINE[:3, 3])
        write_series(folder, DATA[:12, :12, :12], turned, slices=[number])


def again(folder):
    write_series(folder)
    for path in list(folder.iterdir()):
        each = pydicom.dcmread(path)
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = f"{each.SOPInstanceUID}.9"
        each.save_as(path.with_name(f"{path.name}_echo"))


def tilted(folder):
    sheared = AFFINE.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 1]
    lps_normal = np.cross(*(AFFINE[:3, axis] / SPACING_MM[axis] for axis in (0, 1)))
    assert abs(lps_normal @ sheared[:3, 2]) > 1
    write_series(folder, affine=sheared)


def truncated(folder):
    """The last slice, which nobody would miss."""
    write_series(folder)
    path = folder / f"1_{5 * (SHAPE[2] - 1):02d}"
    path.write_bytes(path.read_bytes()[:-200])


BAD = {
    "CT": (lambda folder: write_series(folder, modality="CT"), "of modality CT; expected MR"),
    "slices missing": (lambda folder: write_series(folder, slices=[0, 1, 2, 3, 5, 6, 7, 9, 10]), "Slices are missing"),
    "localiser": (lambda folder: write_series(folder, slices=[3, 4, 5]), "It is a localiser or a slab"),
    "three planes": (three_planes, "several orientations; expected one stack. It is a localiser"),
    "one slice": (lambda folder: write_series(folder, slices=[3]), "found one slice"),
    "two echoes": (again, "several slices at one place"),
    "tilted": (tilted, "shifted against each other"),
    "a damaged slice": (truncated, "found 1 DICOM files that are no slice of its series"),
    "two series": (
        lambda folder: (write_series(folder), write_series(folder, series="2", description="flair")),
        r"found 2 series \(t1 mprage of 12 files, flair of 12 files\)",
    ),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_what_is_no_stack_of_a_head_is_refused_in_a_sentence(tmp_path, make, said):
    make(tmp_path / "anna_T1w")
    with pytest.raises(VolumeError, match=rf"anna_T1w: .*{said}"):
        read_head(tmp_path / "anna_T1w")


def test_folders_of_series_are_scans(tmp_path):
    write_series(tmp_path / "anna_T1w")
    write_series(tmp_path / "bert_FLAIR")
    (tmp_path / "empty").mkdir()
    (tmp_path / "carl_T1w.nii.gz").touch()
    found = find_subjects(tmp_path)
    assert [(each.name, each.scans[0].contrast) for each in found.subjects] == [
        ("anna", Contrast.T1W),
        ("bert", Contrast.FLAIR),
        ("carl", Contrast.T1W),
    ]
    (sentence,) = found.left_out
    assert "empty: found no DICOM file in this folder" in sentence
    ((scan,),) = (each.scans for each in find_subjects(tmp_path / "bert_FLAIR").subjects)
    assert (scan.image, scan.contrast) == (tmp_path / "bert_FLAIR", Contrast.FLAIR)


def test_a_file_that_changes_is_another_scan(tmp_path):
    folder = write_series(tmp_path / "a")
    before = hash_of_path(folder)
    assert hash_of_path(folder) == before
    next(folder.iterdir()).write_bytes(b"other")
    assert hash_of_path(folder) != before


def test_without_simpleitk_it_says_what_to_install(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "a")
    monkeypatch.setattr("lumirkit.prepare.dicom.installed_version", lambda _: None)
    with pytest.raises(VolumeError, match=r"pip install -e .*dicom"):
        reading.opened(folder)
