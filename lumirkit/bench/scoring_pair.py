"""The pair that the scoring benchmark scores: dense labels, landmarks, a folding field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from lumirkit.base.files import write_text_atomically
from lumirkit.data_manifests.structures import structures
from lumirkit.registration.volume import write_displacement, write_volume

_LANDMARKS = 16


def make_pair(root: Path, shape: tuple[int, int, int]) -> None:
    """Write a ground-truth folder of one pair; the same shape always gives the same bytes."""
    rng = np.random.default_rng(0)
    ids = sorted(structures())
    seeds = rng.uniform(-1, 1, (4 * len(ids), 3))
    seeds = seeds[np.linalg.norm(seeds, axis=1) < 1][: len(ids) - 1]
    for number in (3455, 3454):
        label_map = _dense_labels(shape, seeds + rng.normal(0, 0.03, seeds.shape), ids, rng)
        image = np.where(label_map > 0, 50 + label_map // 2, 0).astype(np.uint8)
        name = f"LUMIRMRI_{number}_0000.nii.gz"
        points = _landmarks(label_map, ids[1 : _LANDMARKS + 1])
        for folder, data in (("imagesVal", image), ("labelsVal", label_map), ("landmarksVal", points)):
            write_volume(root / folder / name, data, np.eye(4))
    disp_vox = np.stack([smooth_noise(shape, 24, 6.0, rng) + smooth_noise(shape, 6, 0.5, rng) for _ in range(3)], -1)
    write_displacement(root / "fields" / "disp_3455_3454.nii.gz", np.asfortranarray(disp_vox), np.eye(4))
    metrics = [
        {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
        {"name": "DSC", "metric": "dice", "labels": ids},
        {"name": "HD95", "metric": "hd95", "labels": ids},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
    ]
    images = [f"./imagesVal/LUMIRMRI_{number}_0000.nii.gz" for number in (3455, 3454)]
    config = {
        "name": "bench",
        "evaluation_methods": metrics,
        "expected_shape": [*shape, 3],
        "eval_pairs": [{"fixed": images[0], "moving": images[1]}],
    }
    write_text_atomically(root / "LUMIR25_VAL_LUMIR24_Segmentation_evaluation_config.json", json.dumps(config))


def _dense_labels(
    shape: tuple[int, int, int], seeds: NDArray[np.float64], ids: list[int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a ball that fills most of the grid, cut into one cell a seed with wavy borders; 0 lies outside."""
    axes = [np.linspace(-1.15, 1.15, size) for size in shape]
    points = np.stack([along + smooth_noise(shape, 6, 0.03, rng) for along in np.meshgrid(*axes, indexing="ij")], -1)
    brain = (points**2).sum(axis=-1) < 1
    label_map = np.zeros(shape, dtype=np.uint8)
    label_map[brain] = np.array(ids[1:], dtype=np.uint8)[cKDTree(seeds).query(points[brain])[1]]
    return label_map


def _landmarks(label_map: NDArray[np.uint8], ids: list[int]) -> NDArray[np.uint8]:
    """Draw blobs of 3 x 3 x 3 voxels at the centroids of some labels, numbered from 1."""
    points = np.zeros_like(label_map)
    for number, label in enumerate(ids, start=1):
        centre = np.argwhere(label_map == label).mean(axis=0).round().astype(int)
        points[tuple(slice(max(at - 1, 0), at + 2) for at in centre)] = number
    return points


def smooth_noise(
    shape: tuple[int, int, int], wavelength_vox: float, amplitude: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw random waves (X, Y, Z) of about the given length in voxels and standard deviation."""
    coarse = tuple(max(4, round(2 * size / wavelength_vox)) for size in shape)
    noise = gaussian_filter(rng.normal(size=coarse), 0.7)
    fine = zoom(noise, np.array(shape) / coarse, order=1, mode="nearest", grid_mode=True)
    return np.asarray(amplitude * fine / fine.std(), dtype=np.float32)
