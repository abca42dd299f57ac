"""The kit's own affine and rigid registration, on known transforms of a phantom brain."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from lumirkit.phantoms.brains import T2, PhantomSpec, Subject, make_subject
from lumirkit.prepare.affine_search import find_affine
from lumirkit.registration.any_pair.frame import resampled
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
