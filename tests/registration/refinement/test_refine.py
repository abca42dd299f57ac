"""The refinement of phantom brains: nearer, symmetric to the last bit, and without a trace where it gains nothing."""

import numpy as np
import pytest
import torch

from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
from lumirkit.registration.full_size import register_full_size
from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.refinement.refine import refined_full_size
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.warp import compose, sample_nearest
from lumirkit.registration.weights import load_ensemble
from lumirkit.submission.shipped_weights import SHIPPED_WEIGHTS

SETTINGS = Refinement(steps=6)


@pytest.fixture(scope="module")
def brains():
    spec = PhantomSpec(shape=(48, 60, 48))
    return [make_subject(spec, Subject(number)) for number in (1, 2)]


@pytest.fixture(scope="module")
def images(brains):
    return [torch.from_numpy(np.asarray(image, np.float32))[None, None] for image, _ in brains]


@pytest.fixture(scope="module")
def kit():
    return load_ensemble([SHIPPED_WEIGHTS])[0]


@pytest.fixture(params=["network", "none"])
def network(request, kit):
    return kit if request.param == "network" else None


def agreement(brains, field):
    """The share of the fixed brain's voxels that the warped labels hit."""
    fixed, moving = (torch.from_numpy(labels.astype(np.float32))[None, None] for _, labels in brains)
    warped = sample_nearest(moving, field)
    return float((warped == fixed)[fixed > 0].float().mean())


def test_labels_agree_better_than_before(brains, images, network):
    refined = refined_full_size(network, *images, SETTINGS)
    before = torch.zeros(1, 3, *images[0].shape[2:])
    if network is not None:
        with torch.no_grad():
            before = register_full_size(network, *images).forward_vox
    assert all(taken.course.loss_after < taken.course.loss_before for taken in refined.taken)
    assert agreement(brains, refined.registration.forward_vox) > agreement(brains, before) + 0.01


def test_exchanged_images_exchange_the_fields_to_the_last_bit(images, network):
    fixed, moving = images
    there = refined_full_size(network, fixed, moving, SETTINGS).registration
    back = refined_full_size(network, moving, fixed, SETTINGS).registration
    assert torch.equal(there.forward_vox, back.inverse_vox)
    assert torch.equal(there.inverse_vox, back.forward_vox)


def test_the_fields_do_not_fold_and_are_inverse_to_each_other(images, network):
    found = refined_full_size(network, *images, SETTINGS).registration
    left_over = compose(found.forward_vox, found.inverse_vox).abs()
    assert float(left_over.mean()) < 0.01
    assert float(left_over.max()) < 0.5
    assert float(non_diffeomorphic_volume(found.forward_vox).mean()) < 1e-6


def test_the_finest_grid_is_that_of_the_images(images, kit):
    refined = refined_full_size(kit, *images, Refinement(steps=2, finest_vox=1))
    assert [taken.stage.grid_vox for taken in refined.taken] == [8, 4, 2, 1]
    assert refined.registration.stride == 1
    assert refined.registration.on_network_grid.forward_vox.shape[2:] == images[0].shape[2:]


def test_what_gains_nothing_leaves_the_networks_own_field(images, kit):
    """Steps so small that no number changes."""
    refined = refined_full_size(kit, *images, Refinement(steps=2, learning_rate=1e-30))
    assert not any(taken.course.has_improved for taken in refined.taken)
    with torch.no_grad():
        assert torch.equal(refined.registration.forward_vox, register_full_size(kit, *images).forward_vox)


def test_a_brain_on_itself_stays_without_a_network(images):
    fixed = images[0]
    assert torch.equal(
        refined_full_size(None, fixed, fixed, SETTINGS).registration.forward_vox,
        torch.zeros(1, 3, *fixed.shape[2:]),
    )


def test_the_same_bytes_every_time(images, network):
    first, second = (refined_full_size(network, *images, SETTINGS).registration.forward_vox for _ in range(2))
    assert torch.equal(first, second)


def test_images_of_two_contrasts_keep_the_networks_own_field(images, kit):
    """Bright and dark exchanged, as between T1w and T2w."""
    fixed, moving = images
    inverted = (moving > 0) * (256 - moving)
    assert refined_full_size(kit, fixed, moving, SETTINGS).taken
    for pair in ((fixed, inverted), (inverted, fixed)):
        refined = refined_full_size(kit, *pair, SETTINGS)
        assert refined.taken == ()
        assert not refined.one_contrast
        with torch.no_grad():
            assert torch.equal(refined.registration.forward_vox, register_full_size(kit, *pair).forward_vox)


def test_without_a_network_images_of_two_contrasts_are_told_apart_from_those_of_one(images):
    fixed, moving = images
    inverted = (moving > 0) * (256 - moving)
    assert refined_full_size(None, fixed, moving, SETTINGS).one_contrast
    assert not refined_full_size(None, fixed, inverted, SETTINGS).one_contrast


def test_each_stage_is_told_of_as_it_ends(images, kit):
    told = []
    refined = refined_full_size(kit, *images, Refinement(steps=1), told.append)
    assert tuple(told) == refined.taken


@pytest.mark.parametrize("factor", [1e-5, 1e20])
def test_the_range_of_the_intensities_changes_nothing(images, factor):
    """An R1 map in 1/ms has intensities of 0.002, which the constant of the local NCC would outweigh."""
    fixed, moving = images
    plain, scaled = (
        refined_full_size(None, fixed * by, moving * by, Refinement(steps=2)).registration.forward_vox
        for by in (1.0, factor)
    )
    assert plain.abs().max() > 0.1
    torch.testing.assert_close(scaled, plain, atol=2e-2, rtol=0)
