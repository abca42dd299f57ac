"""A small ground-truth folder in the layout of the challenge, with label blocks and displacement fields."""

import json

import nibabel as nib
import numpy as np
import pytest

SHAPE = (14, 12, 10)
LABELS = [0, 4, 11, 206]
PAIRS = {
    "LUMIR24_Landmark": ("3485_0000", "3484_0000"),
    "LUMIR24_Segmentation": ("3455_0000", "3454_0000"),
    "HighField_Segmentation": ("4015_0000", "4014_0000"),
    "MultiModal_Segmentation": ("4024_0000", "4033_0001"),
}
NDV = {"name": "Non-diffeomorphic Volumes", "metric": "ndv"}
LANDMARK_METRICS = [NDV, {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"}]
SEGMENTATION_METRICS = [
    NDV,
    {"name": "DSC", "metric": "dice", "labels": LABELS},
    {"name": "HD95", "metric": "hd95", "labels": LABELS},
]


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def label_blocks(rng):
    """Three boxes on background, at places that differ by up to a voxel from map to map."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label, corner in zip(LABELS[1:], ((2, 2, 2), (7, 2, 3), (4, 7, 4)), strict=True):
        x, y, z = np.array(corner) + rng.integers(0, 2, 3)
        labels[x : x + 4, y : y + 3, z : z + 4] = label
    return labels


@pytest.fixture
def ground_truth(tmp_path):
    """Folder with four configs of one pair each; labels and landmarks for every image."""
    root = tmp_path / "ground-truth"
    rng = np.random.default_rng(0)
    for kind, pair in PAIRS.items():
        paths = [f"./imagesVal/LUMIRMRI_{name}.nii.gz" for name in pair]
        for path in paths:
            labels = label_blocks(rng)
            save(root / path, np.where(labels > 0, 100, 0).astype(np.uint8))
            save(root / path.replace("images", "labels"), labels)
            save(root / path.replace("images", "landmarks"), labels)
        config = {
            "name": "LUMIR",
            "evaluation_methods": LANDMARK_METRICS if "Landmark" in kind else SEGMENTATION_METRICS,
            "expected_shape": [*SHAPE, 3],
            "eval_pairs": [{"fixed": paths[0], "moving": paths[1]}],
            "masked_evaluation": False,
        }
        (root / f"LUMIR25_VAL_{kind}_evaluation_config.json").write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.fixture
def fields(tmp_path):
    """Folder with one random field a pair, folding here and there."""
    folder = tmp_path / "fields"
    rng = np.random.default_rng(1)
    for fixed, moving in PAIRS.values():
        disp_vox = rng.normal(0, 0.7, (*SHAPE, 3)).astype(np.float32)
        save(folder / f"disp_{fixed[:4]}_{moving[:4]}.nii.gz", disp_vox)
    return folder
