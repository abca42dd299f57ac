"""SyN finds a known translation."""

import numpy as np
from translated import affines, axes, translated_pair

from lumirkit.eval.baselines.syn import SyN


@affines
@axes
def test_syn_pulls_the_moving_image_onto_the_fixed_one(ants, affine, axis, tmp_path):
    fixed, moving = translated_pair(axis, affine, 2, tmp_path)
    disp_vox = SyN(iterations=(40, 20))(fixed, moving)
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 2, atol=0.3)
