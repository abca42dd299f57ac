"""Fields from weights: one `register_pair` for every caller, and the loop over a dataset's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from data_manifests.worklist import PairFiles, Shard, require_writable, validation_files
from registration.cohort import Failure, for_each_pair, register_files
from registration.ensemble import Ensemble
from registration.grid import coarsen_image, refine_displacement
from registration.sitreg import Convolutions, register
from registration.volume import Volume, VolumeError, require_nifti_name, require_same_shape
from registration.weights import load_ensemble


def register_pair(network: Ensemble, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
    """Register two images of one shape; returns the pull-back displacement on the fixed grid in voxels.

    Raises:
        VolumeError: the shapes differ or are too small for the network.
    """
    require_same_shape(fixed, moving)
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


def predict_file(
    fixed: Path,
    moving: Path,
    out: Path,
    weights: Sequence[Path],
    device: torch.device,
    convolutions: Convolutions = Convolutions.FLOAT32,
) -> None:
    """Register one pair of files and write the field.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    require_nifti_name(out)
    require_writable(out.parent)
    network, _ = load_ensemble(weights, device, convolutions)
    register_files(partial(register_pair, network), fixed, moving, out)


def predict_dataset(
    dataset_json: Path,
    images: Path,
    out: Path,
    weights: Sequence[Path],
    device: torch.device,
    shard: Shard | None = None,
    convolutions: Convolutions = Convolutions.FLOAT32,
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
    pairs = validation_files(dataset_json, images, out, shard)
    network, _ = load_ensemble(weights, device, convolutions)

    def predict_pair(pair: PairFiles) -> None:
        register_files(partial(register_pair, network), pair.fixed, pair.moving, pair.field, pair.shape)

    return for_each_pair(pairs, predict_pair)
