import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lumirkit.registration.architecture import make_network
from lumirkit.registration.jacobian import non_diffeomorphic_volume
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.warp import sample, sample_nearest
from lumirkit.train.batch import Batches
from lumirkit.train.data import GroupSampler, TrainingImages
from lumirkit.train.deform import DeformationRanges, draw_deformation
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.recipe import Stage

SHAPE = (48, 40, 32)
RANGES = DeformationRanges(std_vox=(2.0, 2.0), scale_vox=(16.0, 24.0))


def test_a_warp_belongs_to_its_numbers():
    first, again, other = (draw_deformation(RANGES, [0, 1, seed], SHAPE) for seed in (5, 5, 6))
    assert first.shape == (1, 3, *SHAPE)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_warps_are_as_large_as_asked_and_without_folds():
    fields = [draw_deformation(RANGES, [seed], (96, 96, 96)) for seed in range(10)]
    inner = [field[..., 24:-24, 24:-24, 24:-24] for field in fields]  # at the border fewer control points have a say
    assert np.sqrt(np.mean([float(field.square().mean()) for field in inner])) == pytest.approx(2.0, rel=0.2)
    assert max(float(non_diffeomorphic_volume(field).sum()) for field in fields) == 0


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValidationError, match=r"std_vox: found \[2.0, 1.0\]; expected the smaller number first"):
        DeformationRanges(std_vox=(2.0, 1.0))


def prepared(root, deformation):
    """Views and guidance of one pair of a dataset."""
    losses = LossSettings(dice_weight=1.0, ncc_window_vox=5)
    stage = Stage(epochs=1, items_per_epoch=1, learning_rate=1e-3, losses=losses, deformation=deformation)
    sampler = GroupSampler(TrainingImages(root, with_labels=True), seed=1, stage=0)
    batches = Batches(stage, sampler, [0], make_network(SITRegConfig(feature_channels=(4,), update_channels=(4,))))
    return sampler, *batches.prepare(batches.load(0))


def test_images_and_label_maps_take_the_same_warp(phantom_root):
    sampler, plain, _ = prepared(phantom_root, DeformationRanges())
    _, warped, guidance = prepared(phantom_root, RANGES)
    for place, (before, after, masks) in enumerate(zip(plain, warped, guidance.masks, strict=True)):
        disp_vox = draw_deformation(RANGES, [1, 0, 0, 5, place], before.clean.shape[2:])
        torch.testing.assert_close(after.clean, sample(before.clean, disp_vox, "zeros"))
        assert torch.equal(after.seen, after.clean)
        labels = sampler.labels([0])[place].float()
        sizes = sample_nearest(labels, disp_vox, "zeros").unique(return_counts=True)[1].tolist()
        assert {int(mask.sum()) for mask in masks[0] if mask.any()} <= set(sizes)
    assert (warped[0].clean - plain[0].clean).abs().max() > 1


def test_without_a_deformation_images_stay_as_they_are(phantom_root):
    sampler, plain, _ = prepared(phantom_root, DeformationRanges())
    assert torch.equal(plain[0].clean, sampler.batch([0])[0].float())
