"""Fields from weights: one `register_pair` for every caller, and the loop over a dataset's pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from data_manifests.dataset import Pair, read_dataset, require_files
from registration.ensemble import Ensemble
from registration.grid import coarsen_image, refine_displacement
from registration.progress import Progress
from registration.sitreg import register
from registration.volume import Volume, VolumeError, read_image, write_displacement
from registration.weights import load_ensemble


class RequestError(ValueError):
    """The request itself is wrong; nothing was started."""


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts of a pair list."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `i/n`.

        Raises:
            RequestError: it is not two whole numbers with 1 <= i <= n.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise RequestError(f"--shard {text}: expected i/n with 1 <= i <= n, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def of(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Every count-th pair, from the index-th on."""
        return pairs[self.index - 1 :: self.count]


@dataclass(frozen=True)
class Failure:
    """A pair that could not be registered, and why."""

    case_name: str
    reason: str


def register_pair(network: Ensemble, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
    """Register two images of one shape; returns the pull-back displacement on the fixed grid in voxels.

    Raises:
        VolumeError: the shapes differ or are too small for the network.
    """
    if fixed.shape != moving.shape:
        raise VolumeError(
            f"{moving.path}: found shape {moving.shape}; expected {fixed.shape} as in the fixed image {fixed.path}. "
            "Resample one of them to the other's grid."
        )
    stride = network.config.resolution_vox
    smallest = 2 * stride
    if min(fixed.shape) < smallest:
        raise VolumeError(f"{fixed.path}: found shape {fixed.shape}; expected at least {smallest} voxels an axis.")
    device = next(network.parameters()).device
    with torch.inference_mode():
        coarse_fixed, coarse_moving = (
            coarsen_image(torch.from_numpy(image.data).to(device)[None, None], stride) for image in (fixed, moving)
        )
        on_network_grid = register(network, coarse_fixed, coarse_moving)[-1]
        disp_vox = refine_displacement(on_network_grid.forward_vox, stride, fixed.shape)
    return np.ascontiguousarray(disp_vox[0].movedim(0, -1).cpu().numpy())


def predict_file(fixed: Path, moving: Path, out: Path, weights: Sequence[Path], device: torch.device) -> None:
    """Register one pair of files and write the field.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    _require_writable(out.parent)
    network, _ = load_ensemble(weights, device)
    _write_pair(network, fixed, moving, out, expected_shape=None)


def predict_dataset(
    dataset_json: Path,
    images: Path,
    out: Path,
    weights: Sequence[Path],
    device: torch.device,
    shard: Shard | None = None,
) -> list[Failure]:
    """Register the validation pairs of a dataset JSON and write one field a pair under the evaluator's names.

    Args:
        images: folder that the JSON's paths are relative to.
        out: folder of the fields.
        weights: one to K weight files or folders of them; their control points are averaged.

    Returns:
        The pairs that failed; all others are written.

    Raises:
        ManifestError, WeightsError, RequestError: the request cannot be carried out; nothing was started.
    """
    dataset = read_dataset(dataset_json)
    pairs = (shard or Shard()).of(dataset.validation)
    if not pairs:
        raise RequestError(f"{dataset_json}: found no validation pairs for this shard; expected at least one.")
    require_files(images, [path for pair in pairs for path in (pair.fixed, pair.moving)], dataset_json)
    fields = [out / pair.field_name for pair in pairs]
    _require_writable(out)
    network, _ = load_ensemble(weights, device)
    failures = []
    with Progress(len(pairs), "registering") as progress:
        for pair, field in zip(pairs, fields, strict=True):
            try:
                _write_pair(network, images / pair.fixed, images / pair.moving, field, dataset.image_shape)
            except (VolumeError, OSError) as error:
                failures.append(Failure(pair.case_name, str(error)))
            progress.advance(pair.case_name)
    return failures


def _write_pair(
    network: Ensemble, fixed: Path, moving: Path, out: Path, expected_shape: tuple[int, int, int] | None
) -> None:
    volumes = read_image(fixed), read_image(moving)
    for volume in volumes:
        if expected_shape is not None and volume.shape != expected_shape:
            raise VolumeError(
                f"{volume.path}: found shape {volume.shape}; expected {expected_shape} as the dataset JSON says."
            )
    write_displacement(out, register_pair(network, *volumes), volumes[0].affine)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder}: cannot be created ({error.strerror}); name a writable folder.") from error
    if not os.access(folder, os.W_OK):
        raise RequestError(f"{folder}: is not writable for user {os.getuid()}; expected a writable output folder.")
