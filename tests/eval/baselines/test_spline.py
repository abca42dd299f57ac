"""Splines without a network find a known translation, and the same one the other way round."""

import numpy as np
import pytest
from translated import AFFINES, axes, translated_pair

from lumirkit.base.errors import VolumeError
from lumirkit.eval.baselines.spline import Spline
from lumirkit.registration.volume import Volume


@axes
def test_splines_pull_the_moving_image_onto_the_fixed_one(axis, tmp_path):
    fixed, moving = translated_pair(axis, AFFINES["oblique"], 2, tmp_path)
    disp_vox = Spline(device="cpu")(fixed, moving)
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 2, atol=0.15)


def test_brains_apart_end_with_a_sentence(tmp_path):
    fixed, moving = np.zeros((2, 32, 32, 32), np.float32)
    fixed[:10, :10, :10] = moving[20:, 20:, 20:] = 100
    with pytest.raises(VolumeError, match="no voxel shows brain"):
        Spline(device="cpu")(*(Volume(tmp_path, data, np.eye(4)) for data in (fixed, moving)))
