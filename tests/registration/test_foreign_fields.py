"""Deformations of SPM, NiftyReg and FSL: read as what they say, or refused by the name of their tool."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from lumirkit.base.errors import VolumeError
from lumirkit.registration.field import read_field
from lumirkit.registration.grid import Grid, voxels_of

GRID = Grid((9, 8, 7), from_matvec(np.diag([-2.0, 1.5, 1.0]), (8, -6, -3)))
RIGHT_MM = np.array([3.0, -1.0, 0.5])
DISPLACEMENTS = np.broadcast_to(RIGHT_MM, (*GRID.shape, 3))
POSITIONS = apply_affine(GRID.affine, voxels_of(GRID)) + RIGHT_MM


def saved(path, vectors, intent=1007, name="", p1=0.0, about="", axes=5):
    values = vectors[:, :, :, None] if axes == 5 else vectors
    image = nib.Nifti1Image(values.astype(np.float32), GRID.affine)
    image.header["intent_code"], image.header["intent_name"], image.header["intent_p1"] = intent, name.encode(), p1
    image.header["descrip"] = about.encode()
    nib.save(image, path / "y_field.nii.gz")
    return path / "y_field.nii.gz"


@pytest.mark.parametrize(
    ("vectors", "header"),
    [
        (POSITIONS, {"name": "Mapping", "about": "Deformation"}),
        (POSITIONS, {"about": "Deformation field", "intent": 1006}),
        (POSITIONS, {"name": "NREG_TRANS"}),
        (DISPLACEMENTS, {"name": "NREG_TRANS", "p1": 1.0}),
        (DISPLACEMENTS * [-1, -1, 1], {}),
    ],
    ids=["SPM", "SPM, displacement intent", "NiftyReg, positions", "NiftyReg, displacements", "ITK"],
)
def test_fields_of_other_tools_say_the_same(tmp_path, vectors, header):
    found = read_field(saved(tmp_path, vectors, **header)).disp_ras_mm(GRID)
    np.testing.assert_allclose(found, DISPLACEMENTS, atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "header", "message"),
    [
        (DISPLACEMENTS, {"intent": 2006, "axes": 4}, "a warp of FSL"),
        (DISPLACEMENTS, {"intent": 2007, "axes": 4}, "a warp of FSL"),
        (POSITIONS, {"name": "NREG_TRANS", "p1": 2.0}, "NiftyReg of kind 2"),
        (DISPLACEMENTS, {"name": "NREG_TRANS", "p1": 3.0}, "NiftyReg of kind 3"),
        (DISPLACEMENTS, {"name": "Velocity", "about": "Flow field"}, "found a velocity"),
        (POSITIONS, {}, "grow as RAS positions do"),
        (POSITIONS * [-1, -1, 1], {}, "grow as LPS positions do"),
        (POSITIONS, {"intent": 0, "axes": 4}, "grow as RAS positions do"),
        (voxels_of(GRID) + 0.5, {"intent": 0, "axes": 4}, "grow as voxel positions do"),
        (voxels_of(GRID) * GRID.spacing_mm, {"intent": 0, "axes": 4}, "grow as FSL's positions do"),
        (DISPLACEMENTS, {"intent": 1007, "axes": 4}, "tools write them that count in mm along RAS"),
        (DISPLACEMENTS, {"intent": 1006, "axes": 4}, "tools write them that count in mm along RAS"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, vectors, header, message):
    with pytest.raises(VolumeError, match=message) as refused:
        read_field(saved(tmp_path, vectors, **header))
    assert "y_field.nii.gz: found" in str(refused.value)


@pytest.mark.parametrize(
    "about", ["FSL5.0", "FSL3.3\0 v2.25 NIfTI-1 Single file format", "6.0.5:9e026117", "6.0.7.4:ab12cd34"]
)
def test_a_field_in_voxels_that_fsl_wrote_is_read_and_warned_of(tmp_path, capsys, about):
    field = read_field(saved(tmp_path, DISPLACEMENTS, intent=0, axes=4, about=about))
    np.testing.assert_array_equal(field.values, DISPLACEMENTS.astype(np.float32))
    said = capsys.readouterr().err
    assert "y_field.nii.gz: was written by FSL (" in said
    assert "must be converted" in said


@pytest.mark.parametrize("about", ["", "lumirkit 0.1.0 6.0.5:9e026117", "6.0.5", "Time=0.000"])
def test_other_fields_in_voxels_are_read_without_a_word(tmp_path, capsys, about):
    read_field(saved(tmp_path, DISPLACEMENTS, intent=0, axes=4, about=about))
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_vectors_whose_sums_single_precision_does_not_hold_are_judged_without_noise(tmp_path):
    huge = np.full((*GRID.shape, 3), 3e37)
    np.testing.assert_allclose(read_field(saved(tmp_path, huge)).values, huge, rtol=1e-6)
