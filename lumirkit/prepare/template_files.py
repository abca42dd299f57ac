"""`lumirkit template`: the mean brain of a dataset, written as a file; and the template that comes with the kit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from nibabel.affines import from_matvec

from lumirkit.base.errors import RequestError
from lumirkit.base.nifti import require_output
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.prepare.groupwise import Register, groupwise_mean
from lumirkit.registration.resolution import coarsen_image
from lumirkit.registration.volume import Volume, write_volume

SHIPPED_TEMPLATE = Path(__file__).parent / "template" / "mean_brain_2mm.nii.gz"
"""A mean of 20 brains (CC0), 2 mm, in the challenge's frame."""


def write_template(
    brains: Sequence[Path],
    out: Path,
    find_register: Callable[[], Register],
    rounds: int,
    coarser: int,
    say: Callable[[str], None],
) -> None:
    """Write the mean brain of a dataset folder, or of brains that share one grid, as uint8.

    Args:
        brains: one dataset folder, whose training images are taken, or image files.
        find_register: gives what registers, once the brains are known.
        rounds: see `groupwise_mean`.
        coarser: voxels of the brains a voxel of the file, along each axis.
        say: is told of every round.

    Raises:
        ManifestError, RequestError, VolumeError: the request cannot be carried out; nothing was written.
    """
    require_output(out)
    files = _files(brains)
    require_apart([out], files)
    mean = groupwise_mean(files, find_register(), rounds, say)
    coarse = coarsened(mean, coarser)
    write_volume(out, np.rint(coarse.data).astype(np.uint8), coarse.affine)


def coarsened(brain: Volume, coarser: int) -> Volume:
    """A brain on a grid coarser by a whole number, by the means of its brain voxels."""
    with torch.inference_mode():
        data = coarsen_image(torch.from_numpy(brain.data)[None, None], coarser, brain_means=True)[0, 0].numpy()
    first = np.full(3, (coarser - 1) / 2)  # the middle of the first block
    return Volume(brain.name, data, brain.affine @ from_matvec(coarser * np.eye(3), first))


def _files(brains: Sequence[Path]) -> list[Path]:
    """The image files that a request names.

    Raises:
        ManifestError, RequestError: it names no usable dataset folder, or a folder beside others.
    """
    if len(brains) == 1 and brains[0].is_dir():
        dataset_json = find_dataset_json(brains[0])
        return [brains[0] / entry.image for entry in read_dataset(dataset_json).training]
    folder = next((path for path in brains if path.is_dir()), None)
    if folder is not None:
        raise RequestError(f"{folder}: found a folder among others; expected one dataset folder, or image files alone.")
    return list(brains)
