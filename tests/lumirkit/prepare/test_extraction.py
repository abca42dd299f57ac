"""The networks of others that find brains: they are asked in the right way, whatever the axes of a head are."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from scipy.ndimage import binary_dilation

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import installed_version
from lumirkit.prepare.extraction import EXTRACTORS
from lumirkit.prepare.frame import read_template
from lumirkit.prepare.sources import Contrast, Scan
from lumirkit.prepare.stripping import Stripping, found_brain
from lumirkit.prepare.template_files import SHIPPED_TEMPLATE
from lumirkit.registration.volume import Volume

MARGIN, RIM = 16, {"fluid": (2, 20.0), "skull": (3, 8.0), "skin": (3, 220.0)}


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
    to_pil = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("PIL"))
    scanned = nib.Nifti1Image(image, np.diag([2, 2, 2, 1])).as_reoriented(to_pil)
    return Volume("head", np.asarray(scanned.dataobj), scanned.affine), apply_orientation(inside, to_pil)


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda each: each.name)
def test_the_brain_of_a_head_is_found(head_and_brain, extractor, capfd):
    if installed_version(extractor.distribution) is None:
        pytest.skip(f"{extractor.distribution} is not installed")
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
