"""The reading of images and the writing of fields, as prediction does them, beside moving the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lumirkit.base.files import write_atomically
from lumirkit.bench.images import brain_like_pair
from lumirkit.bench.kinds import Kind, Shape
from lumirkit.bench.scoring_pair import smooth_noise
from lumirkit.bench.work import Work
from lumirkit.registration.volume import read_image, write_displacement, write_volume


@dataclass(frozen=True)
class FileWork:
    """Two calls: `call` reads or writes through the kit's functions, `raw` moves the same bytes without decoding."""

    call: Callable[[], object]
    raw: Callable[[], object]


def file_work(work: Work, folder: Path) -> FileWork:
    """Prepare the files of an io work in `folder`; reading finds them in the system's cache."""
    if work.kind in (Kind.READ_NII, Kind.READ_NII_GZ):
        path = folder / ("image.nii" if work.kind is Kind.READ_NII else "image.nii.gz")
        write_volume(path, brain_like_pair(work.shape)[0].data.astype(np.uint8), np.eye(4))
        return FileWork(lambda: read_image(path), path.read_bytes)
    path = folder / ("field.nii" if work.kind is Kind.WRITE_NII else "field.nii.gz")
    disp_vox = _field(work.shape)
    write_displacement(path, disp_vox, np.eye(4))
    content = path.read_bytes()
    return FileWork(
        lambda: write_displacement(path, disp_vox, np.eye(4)),
        lambda: write_atomically(path, partial(_write, content)),
    )


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _field(shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Draw smooth displacements of some voxels (X, Y, Z, 3), about as hard to compress as a network's."""
    rng = np.random.default_rng(0)
    return np.stack([smooth_noise(shape, 24, 3.0, rng) for _ in range(3)], axis=-1)
