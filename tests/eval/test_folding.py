"""Folding in percent of the mask."""

import numpy as np
import pytest
import torch

from eval.folding import non_diffeomorphic_percentage
from registration.jacobian import non_diffeomorphic_volume

SHAPE = (41, 7, 6)  # longer than two slabs


def random_case(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.8, (*SHAPE, 3)), rng.random(SHAPE) < 0.6


def test_slabs_add_up_to_the_whole():
    disp_vox, mask = random_case()
    interior = mask[1:-1, 1:-1, 1:-1]
    volume = non_diffeomorphic_volume(torch.from_numpy(disp_vox).permute(3, 0, 1, 2)[None])[0].numpy()
    expected = 100 * volume[interior].sum() / interior.sum()
    assert expected > 1
    assert non_diffeomorphic_percentage(disp_vox, mask) == pytest.approx(expected, rel=1e-12)


def test_identity_is_0():
    assert non_diffeomorphic_percentage(np.zeros((*SHAPE, 3)), np.ones(SHAPE, dtype=bool)) == 0


def test_mirrored_grid_is_100_percent():
    disp_vox = np.zeros((*SHAPE, 3))
    disp_vox[..., 1] = -2 * np.arange(SHAPE[1])[None, :, None]  # y -> -y
    assert non_diffeomorphic_percentage(disp_vox, random_case()[1]) == pytest.approx(100)


def test_folds_outside_the_mask_do_not_count():
    disp_vox = np.zeros((*SHAPE, 3))
    disp_vox[30, 3, 3, 0] = 2.5
    mask = np.ones(SHAPE, dtype=bool)
    assert non_diffeomorphic_percentage(disp_vox, mask) == pytest.approx(100 * 14 / 12 / (39 * 5 * 4))
    mask[28:] = False
    assert non_diffeomorphic_percentage(disp_vox, mask) == 0


def test_channels_first_view_gives_the_same():
    disp_vox, mask = random_case()
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)), 0, -1)
    assert non_diffeomorphic_percentage(view, mask) == non_diffeomorphic_percentage(disp_vox, mask)


def test_wrong_shape_and_empty_mask():
    disp_vox, mask = random_case()
    with pytest.raises(ValueError, match=r"expected \(41, 7, 6, 3\), the mask's grid"):
        non_diffeomorphic_percentage(disp_vox[:-1], mask)
    with pytest.raises(ValueError, match="no voxel away from the border"):
        non_diffeomorphic_percentage(disp_vox, np.zeros(SHAPE, dtype=bool))
