"""Fields that other tools than ITK write as vector images: recognised by their headers, and read as ITK's.

* SPM writes deformations (`y_*.nii`) as RAS mm positions in the moving image, named "Mapping", and the velocities of
  DARTEL and Shoot as "Flow field" or "Velocity".
* NiftyReg writes the intent name "NREG_TRANS", and in the first intent parameter what it is: 0 positions, 1
  displacements, both in RAS mm; others are grids of splines and velocities.
* FSL writes intents of its own; its warps count mm from a corner of the moving image, whose size they do not tell.
  Where the intent was lost, only FSL's version in the description tells a warp from a field in voxels, and FSL may have
  copied one of those: that makes a warning, and no refusal.
* FreeSurfer, VoxelMorph and others write displacements in RAS mm with four axes, some with the intent of vectors.
"""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float64
from nibabel.affines import apply_affine
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.grid import Grid, flip_lps, voxels_of

_OF_FSL = {*range(2006, 2010), *range(2016, 2019)}
_VERSION_OF_FSL = re.compile(r"fsl ?\d|\d+(\.\d+){2,3}:[0-9a-f]{6,}$")  # such as FSL5.0 and 6.0.5:9e026117
_POSITIONS, _DISPLACEMENTS = 0, 1  # of NiftyReg
_IN_MM = (1006, 1007)  # intents of displacements and of vectors, which a field in voxels does not have
_AXES_OF_VOXELS = 4  # (X, Y, Z, 3), where ITK's have five
_SAME = 1e-3
_LIKE_POSITIONS = 0.3  # how far the slopes of positions may be from those of the identity
_FEWEST = 4  # voxels an axis from which slopes are judged


def require_known(path: Path, header: nib.Nifti1Header) -> None:
    """Check that a field is not of a kind that cannot be read.

    Raises:
        VolumeError: it is; the message names the tool.
    """
    intent, name, about = _said(header)
    if len(header.get_data_shape()) == _AXES_OF_VOXELS and intent in _IN_MM and not _voxels_are_mm(header):
        raise VolumeError(
            f"{path}: found vectors of shape (X, Y, Z, 3) with intent {intent}, as tools write them that count in mm "
            "along RAS; expected displacements in voxels, without that intent, or ITK's of shape (X, Y, Z, 1, 3). "
            "Write them as ITK's: in LPS mm."
        )
    if intent in _OF_FSL:
        raise VolumeError(
            f"{path}: found a warp of FSL (intent {intent}), in mm from a corner of the moving image; expected a field "
            "in voxels or of ITK. Convert it, as `wb_command -convert-warpfield -from-fnirt … -to-itk …` does."
        )
    if name == "NREG_TRANS" and header["intent_p1"] not in (_POSITIONS, _DISPLACEMENTS):
        raise VolumeError(
            f"{path}: found a transformation of NiftyReg of kind {float(header['intent_p1']):g}, a spline or a "
            "velocity; expected a field. Convert it, as `reg_transform -def` does."
        )
    if "flow field" in about or "velocity" in (name + about).lower():
        raise VolumeError(
            f"{path}: found a velocity ({about or name}), as SPM writes it; expected a field. Write the deformation, "
            "which SPM calls y_*.nii."
        )


def warn_of_fsl(path: Path, header: nib.Nifti1Header) -> None:
    """Tell that a field which is read as one in voxels was written by FSL, whose own warps are something else."""
    _, _, about = _said(header)
    if _VERSION_OF_FSL.match(about):
        say_to_stderr(
            f"warning: {path}: was written by FSL ({about}) and is read as displacements in voxels; a warp of fnirt or "
            "convertwarp counts mm from a corner of the moving image, and must be converted, as `wb_command "
            "-convert-warpfield -from-fnirt … -to-itk …` does"
        )


def as_itk(
    path: Path, header: nib.Nifti1Header, vectors: Float[ndarray, "x y z 3"], grid: Grid
) -> Float[ndarray, "x y z 3"]:
    """The displacements of a vector image in LPS mm, as ITK has them, whichever tool wrote it.

    Raises:
        VolumeError: these seem to be positions, but the header names no tool that writes them.
    """
    if _said(header)[1] == "NREG_TRANS":
        return flip_lps(vectors - _places(grid) if header["intent_p1"] == _POSITIONS else vectors)
    if is_of_spm(header):
        return flip_lps(vectors - _places(grid))
    require_displacements(path, vectors, grid)
    return vectors


def is_foreign(header: nib.Nifti1Header) -> bool:
    """Whether SPM or NiftyReg wrote a vector image, whose places are those of the header's affine, not those of ITK."""
    return _said(header)[1] == "NREG_TRANS" or is_of_spm(header)


def is_of_spm(header: nib.Nifti1Header) -> bool:
    """Whether a header is that of a deformation of SPM, which may have either intent of vectors."""
    _, name, about = _said(header)
    return name == "Mapping" or about.startswith("deformation")


def _said(header: nib.Nifti1Header) -> tuple[int, str, str]:
    """The intent of a header, its name, and the description in small letters."""
    name, about = (bytes(header[key]).rstrip(b"\0").decode(errors="replace") for key in ("intent_name", "descrip"))
    return int(header["intent_code"]), name.strip(), about.strip().lower()


def _voxels_are_mm(header: nib.Nifti1Header) -> bool:
    """Whether an image lies along right, anterior and superior with 1 mm a voxel, so that both counts are one."""
    return bool(np.abs(header.get_best_affine()[:3, :3] - np.eye(3)).max() < _SAME)


def _places(grid: Grid) -> Float64[ndarray, "x y z 3"]:
    """Where every voxel lies, in RAS mm."""
    return apply_affine(grid.affine, voxels_of(grid))


def require_displacements(path: Path, vectors: Float[ndarray, "x y z 3"], grid: Grid) -> None:
    """Check that vectors do not grow along every axis as positions do, in voxels or mm of whatever system.

    Raises:
        VolumeError: they do; the message names the system.
    """
    if min(grid.shape) < _FEWEST:
        return
    faces = [[np.take(vectors, end, axis).mean((0, 1), dtype=np.float64) for end in (0, -1)] for axis in range(3)]
    ends = [last - first for first, last in faces]
    slopes = np.stack(ends, axis=-1) / (np.array(grid.shape) - 1)  # [component, axis], a voxel
    for system, of_positions in _slopes_of_positions(grid):
        if np.abs(slopes @ np.linalg.inv(of_positions) - np.eye(3)).max() < _LIKE_POSITIONS:
            raise VolumeError(
                f"{path}: found vectors that grow as {system} positions do; expected displacements, in voxels or as "
                "ITK has them. Subtract the place of every voxel, or keep its tool's name in the header."
            )


def _slopes_of_positions(grid: Grid) -> list[tuple[str, Float64[ndarray, "3 3"]]]:
    """How positions grow along the axes of a grid, [component, axis], in the systems that tools write them in."""
    from_voxels = grid.affine[:3, :3]
    along_axes = np.diag(grid.spacing_mm)  # as FSL counts, whose first axis may be turned round
    return [
        ("RAS", from_voxels),
        ("LPS", np.diag([-1, -1, 1]) @ from_voxels),
        ("voxel", np.eye(3)),
        ("FSL's", along_axes),
        ("FSL's", np.diag([-1, 1, 1]) @ along_axes),
    ]
