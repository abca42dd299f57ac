"""`lumirkit register`: one pair of files, and what the field makes of the moving image."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.nifti import require_output
from lumirkit.registration.any_pair.files import FileOptions, predict_file
from lumirkit.registration.place import Place
from lumirkit.registration.warp_files import warp_file


def register_and_warp(
    fixed: Path,
    moving: Path,
    out: Path,
    weights: Sequence[Path],
    place: Place,
    options: FileOptions,
    moved: Path | None = None,
) -> None:
    """Register one pair of files, and write the moving image on the fixed grid if asked for; see `predict_file`.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    if moved is not None:
        require_output(moved)
    predict_file(fixed, moving, out, weights, place, options, _say)
    if moved is not None:
        warp_file(out, moving, moved)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
