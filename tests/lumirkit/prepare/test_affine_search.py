"""The kit's own affine and rigid registration, on known transforms of a phantom brain."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from phantom_heads import make_head
from scipy.spatial.transform import Rotation

from lumirkit.phantoms.brains import T2, PhantomSpec, Subject, make_subject
from lumirkit.prepare.affine_search import find_affine
from lumirkit.registration.any_pair.frame import brain_box_mm, resampled
from lumirkit.registration.any_pair.start import affine_start
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume

SPEC = PhantomSpec(shape=(48, 56, 48))
SPACING_MM = 3.3
PLACE = from_matvec(SPACING_MM * np.eye(3), [-79, -92, -79])


def phantom(modality=0, contrast=None):
    """The same anatomy in either contrast: the noise of the image is drawn after the deformation."""
    subject = Subject(7, modality) if contrast is None else Subject(7, modality, contrast=contrast)
    return Volume(f"phantom {modality}", make_subject(SPEC, subject)[0].astype(np.float32), PLACE)


@pytest.fixture(scope="module")
def brain():
    return phantom()


def moved(image, matrix):
    """The image whose brain lies where the matrix takes it, read once on a grid of its own."""
    there = replace(image, affine=matrix @ image.affine)
    corner = apply_affine(matrix, [0, 0, 0]) - 1.1 * np.array([96, 104, 100])
    return resampled(there, Grid((80, 90, 84), from_matvec(np.diag([2.8, 2.7, 2.9]), corner)))


def rms_mm(found, truth, image):
    brain_mm = apply_affine(image.affine, np.argwhere(image.data > 0))
    return np.sqrt(np.square(apply_affine(found, brain_mm) - apply_affine(truth, brain_mm)).sum(1).mean())


def matrix(degrees, shift_mm, stretch=(1, 1, 1), shear=0.0):
    linear = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(stretch)
    linear = linear @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])
    return from_matvec(linear, shift_mm)


@pytest.mark.parametrize(
    "truth",
    [
        matrix((0, 0, 0), (0, 0, 0)),
        matrix((20, -8, 12), (30, -45, 18)),
        matrix((-12, 5, -10), (-20, 15, 60), stretch=(1.1, 0.92, 1.15), shear=0.06),
    ],
    ids=["none", "rigid", "affine"],
)
def test_a_known_affine_is_found(brain, truth):
    found = find_affine(brain, moved(brain, truth))
    assert rms_mm(found, truth, brain) < 0.5


def test_a_rigid_one_between_contrasts_neither_scales_nor_shears(brain):
    truth = matrix((10, -14, 6), (12, -9, 22))
    found = find_affine(brain, moved(phantom(0, T2), truth), rigid=True)
    np.testing.assert_allclose(found[:3, :3].T @ found[:3, :3], np.eye(3), atol=1e-6)
    assert np.linalg.det(found[:3, :3]) > 0
    assert rms_mm(found, truth, brain) < 0.7


MOST_MM = 1.0  # that a corner of the brain's box, 13 cm from its middle, may be away from where it belongs


def corners_mm(found, image):
    return apply_affine(found, list(product(*brain_box_mm(image).T)))


@pytest.mark.parametrize("rigid", [False, True], ids=["affine", "rigid"])
def test_ants_and_the_kit_find_the_same_transform_of_a_head(rigid):
    """A head's brain in two poses, on two grids, each image with noise of its own; the truth is known for both."""
    pytest.importorskip("ants")
    head = make_head(6, place=matrix((4, -3, 2), (5, -8, 10)))
    noise = np.random.default_rng(1)
    truth = matrix((9, -7, 12), (14, -22, 9)) if rigid else matrix((9, -7, 12), (14, -22, 9), (1.08, 0.93, 1.1), 0.05)

    def noisy(image):
        return replace(image, data=np.where(image.data > 0, image.data + noise.normal(0, 3, image.shape), 0).clip(0))

    fixed = Volume("head", (head.image * head.mask).astype(np.float32), head.affine)
    moving = noisy(moved(fixed, truth))
    fixed = noisy(fixed)
    fixed, moving = (replace(each, data=each.data.astype(np.float32)) for each in (fixed, moving))
    by_kit, by_ants = find_affine(fixed, moving, rigid), affine_start(fixed, moving, lambda _: None, rigid)
    places = {name: corners_mm(each, fixed) for name, each in (("kit", by_kit), ("ANTs", by_ants), ("truth", truth))}
    for one, other in (("kit", "truth"), ("ANTs", "truth"), ("kit", "ANTs")):
        apart_mm = np.linalg.norm(places[one] - places[other], axis=1).max()
        assert apart_mm < MOST_MM, (one, other)
