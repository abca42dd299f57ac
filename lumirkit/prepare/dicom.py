"""A scan as a scanner writes it: a folder whose files are the slices of one DICOM series, read by SimpleITK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.affines import from_matvec
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import extra_to_install, installed_version
from lumirkit.registration.grid import LPS_FROM_RAS

_MAGIC, _MAGIC_AT = b"DICM", 128
_MODALITY, _SERIES, _POSITION, _ORIENTATION = "0008|0060", "0008|103e", "0020|0032", "0020|0037"
_ROUNDING = 1e-3  # of directions, and of distances as a share of their median; headers have six digits and fewer
_MOST_UNEVEN = 0.05  # of the distance between slices


def is_dicom(path: Path) -> bool:
    """Whether a file is one of DICOM."""
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds files of DICOM, whatever their names are."""
    return any(path.is_file() and is_dicom(path) for path in folder.iterdir())


def read_series(folder: Path) -> nib.Nifti1Image:
    """Read the one series of a folder, with the values and the place that its headers say.

    Raises:
        VolumeError: SimpleITK is missing, the folder holds no series or several, or it is no evenly spaced stack of MR.
    """
    if installed_version("SimpleITK") is None:
        raise VolumeError(f"{folder}: found a DICOM series; reading it needs SimpleITK; {extra_to_install('dicom')}")
    import SimpleITK as sitk  # noqa: N813  its documentation calls it so

    try:
        files = _files_of_series(folder, sitk)
        slices = [_slice(sitk, file) for file in files]
        normal = slices[0].normal
        slices.sort(key=lambda each: float(each.position_mm @ normal))
        _require_stack(folder, slices)
        image = sitk.ReadImage([each.file for each in slices], sitk.sitkFloat32)
    except RuntimeError as error:  # of ITK
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(f"{folder}: not a readable DICOM series ({reason}). Copy it again.") from error
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine = LPS_FROM_RAS @ from_matvec(directions, image.GetOrigin())
    found = nib.Nifti1Image(sitk.GetArrayFromImage(image).transpose(), affine)
    found.file_map["image"].filename = str(folder)  # for messages
    return found


@dataclass(frozen=True, eq=False)
class _Slice:
    """What the header of a slice says."""

    file: str
    modality: str
    frames: int
    position_mm: Float64[ndarray, " 3"]
    orientation: Float64[ndarray, " 6"]

    @property
    def normal(self) -> Float64[ndarray, " 3"]:
        return np.cross(self.orientation[:3], self.orientation[3:])


def _files_of_series(folder: Path, sitk: Any) -> list[str]:
    """The files of the one series.

    Raises:
        VolumeError: there is none, there are several, or a file belongs to none.
    """
    reader = sitk.ImageSeriesReader
    names = reader.GetGDCMSeriesIDs(str(folder))
    series = {name: list(reader.GetGDCMSeriesFileNames(str(folder), name)) for name in names}
    if not series:
        raise VolumeError(f"{folder}: found no DICOM series; expected the files of one. Copy it again.")
    if len(series) > 1:
        told = ", ".join(f"{_description(sitk, files[0])} of {len(files)} files" for files in series.values())
        raise VolumeError(
            f"{folder}: found {len(series)} series ({told}); expected one. Give each a folder of its own, and list the "
            "one that is meant in a CSV."
        )
    (files,) = series.values()
    others = sorted({path for path in folder.iterdir() if path.is_file() and is_dicom(path)} - set(map(Path, files)))
    if others:
        raise VolumeError(
            f"{folder}: found {len(others)} DICOM files that are no slice of its series, such as {others[0].name}; "
            "expected slices alone. Copy damaged ones again, and move others away."
        )
    return files


def _header(sitk: Any, file: str) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _description(sitk: Any, file: str) -> str:
    header = _header(sitk, file)
    return header.GetMetaData(_SERIES).strip() if header.HasMetaDataKey(_SERIES) else "one without a description"


def _slice(sitk: Any, file: str) -> _Slice:
    """Read the header of one file.

    Raises:
        VolumeError: it does not say where the slice lies.
    """
    header = _header(sitk, file)
    found = {}
    for key, size in ((_POSITION, 3), (_ORIENTATION, 6)):
        numbers = header.GetMetaData(key).split("\\") if header.HasMetaDataKey(key) else []
        if len(numbers) != size:
            raise VolumeError(
                f"{file}: its DICOM header does not say where the slice lies; expected a position and an orientation. "
                "Convert the series to NIfTI by dcm2niix."
            )
        found[key] = np.array(numbers, np.float64)
    frames = header.GetSize()[2] if len(header.GetSize()) > 2 else 1
    return _Slice(file, header.GetMetaData(_MODALITY).strip(), frames, found[_POSITION], found[_ORIENTATION])


def _require_stack(folder: Path, slices: Sequence[_Slice]) -> None:
    """Check that slices are MR and lie evenly behind each other.

    Raises:
        VolumeError: they do not; the message says how.
    """
    first = slices[0]
    if first.modality != "MR":
        raise VolumeError(f"{folder}: found a DICOM series of modality {first.modality}; expected MR. Leave it out.")
    if any(each.frames > 1 for each in slices):
        raise VolumeError(
            f"{folder}: found several slices in one DICOM file; expected one file a slice. Convert the series to NIfTI "
            "by dcm2niix."
        )
    if any(np.abs(each.orientation - first.orientation).max() > _ROUNDING for each in slices):
        raise VolumeError(
            f"{folder}: found slices of several orientations; expected one stack. It is a localiser; give the scan of "
            "the whole head."
        )
    if len(slices) < 2:
        raise VolumeError(f"{folder}: found one slice; expected those of a whole head. Copy the series again.")
    steps = np.diff([each.position_mm for each in slices], axis=0)
    distances = steps @ first.normal
    usual = float(np.median(distances))
    if distances.min() <= _ROUNDING * usual:
        raise VolumeError(
            f"{folder}: found several slices at one place, as of echoes or repetitions; expected each place once. Give "
            "each image a folder of its own."
        )
    if np.abs(distances - usual).max() > _MOST_UNEVEN * usual:
        raise VolumeError(
            f"{folder}: its slices lie {distances.min():.4g} to {distances.max():.4g} mm apart; expected equal "
            "distances. Slices are missing; copy the series again."
        )
    if np.abs(steps - distances[:, None] * first.normal).max() > _MOST_UNEVEN * usual:
        raise VolumeError(
            f"{folder}: its slices are shifted against each other, as with a tilted gantry; expected a straight stack. "
            "Convert the series to NIfTI by dcm2niix."
        )
