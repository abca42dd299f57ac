"""A slab of one brain and the whole of another."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from lumirkit.registration.any_pair.field_of_view import cut_to_shared_view
from lumirkit.registration.any_pair.pair_in_frame import framed
from lumirkit.registration.volume import Volume


def brain(name, shape=(44, 46, 42), corner_mm=(-22, -23, -21)):
    """An ellipsoid in the middle of the world."""
    affine = from_matvec(np.eye(3), corner_mm)
    at_mm = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return Volume(name, np.float32(200 * (np.square(at_mm / (15, 18, 16)).sum(axis=-1) < 1)), affine)


def slab(name="slab"):
    return brain(name, shape=(44, 46, 12), corner_mm=(-22, -23, -3))


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_whole_brain_is_cut_to_the_slab_that_the_other_image_shows(exchanged):
    said = []
    images = (slab(), brain("whole")) if exchanged else (brain("whole"), slab())
    pair = framed(*images, say=said.append)
    np.testing.assert_array_equal(pair.fixed.data > 0, pair.moving.data > 0)
    assert np.count_nonzero(pair.fixed.data) == np.count_nonzero(slab().data)
    (warning,) = (text for text in said if "warning" in text)
    assert warning.startswith("warning: whole: slab shows")
    assert "--fixed-mask" in warning
    assert not any("hardly overlap" in text for text in said)


def test_images_that_show_the_same_stay_as_they_are():
    fixed, moving = brain("fixed"), brain("moving", shape=(40, 40, 40), corner_mm=(-20, -20, -20))
    cut = cut_to_shared_view(fixed, moving, pytest.fail)
    assert cut[0] is fixed
    assert cut[1] is moving


def test_a_slab_whose_header_places_it_elsewhere_is_said_and_nothing_is_cut():
    said = []
    fixed, there = brain("whole"), slab()
    elsewhere = Volume("slab", there.data, from_matvec(np.eye(3), (300, 0, 0)) @ there.affine)
    cut = cut_to_shared_view(fixed, elsewhere, said.append)
    assert cut[0] is fixed
    assert cut[1] is elsewhere
    assert said
    assert all("--fixed-mask" in text for text in said)


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_slab_that_hardly_touches_the_brain_is_said_and_not_blamed_on_the_brain(exchanged):
    said = []
    middle = slab()
    beside = Volume("slab", middle.data, from_matvec(np.eye(3), (0, 0, 18)) @ middle.affine)  # 2 mm of brain are in it
    images = (beside, brain("whole")) if exchanged else (brain("whole"), beside)
    framed(*images, say=said.append)
    (warning,) = (text for text in said if text.startswith("warning: whole: "))
    assert "slab shows 1 % of its brain, by their headers" in warning
    assert "--moving-mask" in warning
