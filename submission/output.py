"""Where a field or an image is to be written."""

from __future__ import annotations

from pathlib import Path

from data_manifests.worklist import require_writable
from registration.volume import require_nifti_name


def require_output(path: Path) -> None:
    """Check, before anything is computed, that a NIfTI file can be written here.

    Raises:
        VolumeError: it is not called like one.
        RequestError: its folder cannot be made or is not writable.
    """
    require_nifti_name(path)
    require_writable(path.parent)
