"""Folding in percent of the mask."""

import numpy as np
import pytest
import torch

from lumirkit.eval.metrics.ndv import Folding, measure_folding
from lumirkit.registration.jacobian import non_diffeomorphic_volume

SHAPE = (70, 37, 19)  # more than one block along every axis


def random_case(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.8, (*SHAPE, 3)), rng.random(SHAPE) < 0.6


def test_blocks_add_up_to_the_whole():
    disp_vox, mask = random_case()
    interior = mask[1:-1, 1:-1, 1:-1]
    volume = non_diffeomorphic_volume(torch.from_numpy(disp_vox).permute(3, 0, 1, 2)[None])[0].numpy()
    expected = 100 * volume[interior].sum() / interior.sum()
    assert expected > 1
    found = measure_folding(disp_vox, mask)
    assert found.percent == pytest.approx(expected, rel=1e-12)
    assert found.folded_voxels == (volume[interior] > 0).sum()


def test_identity_is_0():
    assert measure_folding(np.zeros((*SHAPE, 3)), np.ones(SHAPE, dtype=bool)) == Folding(0.0, 0, 0.0)


def test_mirrored_grid_is_100_percent():
    disp_vox = np.zeros((*SHAPE, 3))
    disp_vox[..., 1] = -2 * np.arange(SHAPE[1])[None, :, None]  # y -> -y
    mask = random_case()[1]
    found = measure_folding(disp_vox, mask)
    assert found.percent == pytest.approx(100)
    assert found.folded_voxels == mask[1:-1, 1:-1, 1:-1].sum()
    assert found.sd_log_jacobian == pytest.approx(0)  # every determinant is clamped


def test_known_fold():
    disp_vox = np.zeros((*SHAPE, 3))
    disp_vox[30, 13, 9, 0] = 2.5
    mask = np.ones(SHAPE, dtype=bool)
    expected = 100 * 14 / 12 / np.prod([size - 2 for size in SHAPE])  # by hand: 14 halved sixths of a voxel
    assert measure_folding(disp_vox, mask).percent == pytest.approx(expected)
    mask[28:] = False
    assert measure_folding(disp_vox, mask) == Folding(0.0, 0, 0.0)


def test_log_jacobian_of_stretched_halves():
    disp_vox = np.zeros((*SHAPE, 3), dtype=np.float32)
    half = SHAPE[0] // 2
    x = np.arange(SHAPE[0])
    disp_vox[..., 0] = np.where(x < half, 0, x - half)[:, None, None]  # twice as long from `half` on
    mask = np.zeros(SHAPE, dtype=bool)
    mask[half - 10 : half, 5:9, 5:9] = mask[half + 1 : half + 11, 5:9, 5:9] = True  # J = 1, and J = 2
    assert measure_folding(disp_vox, mask).sd_log_jacobian == pytest.approx(np.log(2) / 2)


def test_channels_first_view_gives_the_same():
    disp_vox, mask = random_case()
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)), 0, -1)
    assert measure_folding(view, mask) == measure_folding(disp_vox, mask)


def test_wrong_shape_and_empty_mask():
    disp_vox, mask = random_case()
    with pytest.raises(ValueError, match=r"expected \(70, 37, 19, 3\), the mask's grid"):
        measure_folding(disp_vox[:-1], mask)
    with pytest.raises(ValueError, match="no voxel away from the border"):
        measure_folding(disp_vox, np.zeros(SHAPE, dtype=bool))
