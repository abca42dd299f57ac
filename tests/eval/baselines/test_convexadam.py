"""ConvexAdam finds a known translation."""

import numpy as np
import pytest
from translated import axes, translated_pair

from lumirkit.eval.baselines.convexadam import ConvexAdam


@axes
def test_convexadam_pulls_the_moving_image_onto_the_fixed_one(axis, tmp_path):
    pytest.importorskip("convexAdam", reason="needs the extra: pip install '.[baselines]'")
    fixed, moving = translated_pair(axis, np.eye(4), 3, tmp_path)
    disp_vox = ConvexAdam(device="cpu")(fixed, moving)
    assert disp_vox.dtype == np.float32
    centre = disp_vox[10:-10, 10:-10, 10:-10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(centre, np.eye(3)[axis] * 3, atol=0.3)
