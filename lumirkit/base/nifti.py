"""NIfTI files: their names, and their bytes."""

from __future__ import annotations

from pathlib import Path

from lumirkit.base.errors import VolumeError
from lumirkit.base.files import require_writable


def require_nifti_name(path: Path) -> None:
    """Check that a file to be written is named as NIfTI.

    Raises:
        VolumeError: the name ends in neither .nii nor .nii.gz.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path}: expected a file name that ends in .nii.gz or .nii. Give the output such a name.")


def require_output(path: Path) -> None:
    """Check, before anything is computed, that a NIfTI file can be written here.

    Raises:
        VolumeError: it is not called like one.
        RequestError: its folder cannot be made or is not writable.
    """
    require_nifti_name(path)
    require_writable(path.parent)
