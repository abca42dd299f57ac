"""Training on generated pairs: guided by their labels and true fields, alone or mixed with real ones."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.weights import load_weights
from lumirkit.train import step as step_module
from lumirkit.train.data import GroupSampler, Subset, TrainingImages
from lumirkit.train.guidance import guidance_of, label_masks
from lumirkit.train.loop import train
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.losses import displacement_loss, soft_dice_loss
from lumirkit.train.objective import Objective, pairwise_loss
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, RecipeError, Stage
from lumirkit.train.sharing import share_of_batch
from lumirkit.train.synthetic import Synthetic, generate_pair
from lumirkit.train.views import View

CPU = Processes(torch.device("cpu"))
FACTORS = {"labels": 6, "shape_scale_vox": [6, 6], "deformation_scale_vox": [8, 12], "deformation_vox": [1, 1]}
LOSSES = {"ncc_window_vox": 5, "intermediate_weight": 0.01}
STAGE = {"epochs": 2, "items_per_epoch": 3, "learning_rate": 2e-3, "losses": LOSSES}


def recipe(**synthetic):
    network = {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]}
    stage = STAGE | {"synthetic": {"share": 0.5, "factors": FACTORS} | synthetic}
    return Recipe.model_validate({"name": "tiny", "network": network, "stages": [stage]})


def as_views(pairs, labels):
    """A batch of generated pairs, guided by so many labels and by the true field."""
    fixed, moving, fixed_labels, moving_labels, disp_vox = (
        torch.cat([getattr(pair, name) for pair in pairs])
        for name in ("fixed", "moving", "fixed_labels", "moving_labels", "disp_vox")
    )
    guidance = guidance_of(fixed_labels, moving_labels, labels, [[number] for number in range(len(pairs))])
    return (View(fixed, fixed), View(moving, moving)), replace(guidance, disp_vox=disp_vox)


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def blocks(x):
    labels = torch.zeros(1, 1, 12, 10, 8)
    labels[:, :, x : x + 4, 2:8, 2:6] = 3
    labels[:, :, x : x + 4, 8:10, 2:6] = 5
    return labels


@pytest.mark.parametrize(("shift", "expected"), [(0, 0.0), (1, 1 - 3 / 4), (2, 1 - 2 / 4), (4, 1.0)])
def test_soft_dice_of_shifted_blocks(shift, expected):
    still = torch.zeros(1, 3, 12, 10, 8)
    fixed, moving = (label_masks(blocks(x), torch.tensor([3.0, 5.0]), 1) for x in (2, 2 + shift))
    loss = soft_dice_loss(fixed, moving, still)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    still[:, 0] = shift
    assert float(soft_dice_loss(fixed, moving, still)) == pytest.approx(0, abs=1e-6)


def test_a_label_that_is_in_no_map_has_no_overlap_and_no_nan():
    nowhere = label_masks(blocks(2), torch.tensor([9.0]), 1)
    assert float(soft_dice_loss(nowhere, nowhere, torch.zeros(1, 3, 12, 10, 8))) == 1


def test_masks_of_a_coarser_grid_are_shares_of_its_voxels():
    """A block from 3 to 7 covers half of the voxel over 2 and 3, two whole ones, and half of that over 6 and 7."""
    masks = label_masks(blocks(3).to(torch.int16), torch.tensor([5, 3]), 2)
    assert masks.shape == (1, 2, 6, 5, 4)
    assert masks[0, 1, :, 2, 2].tolist() == [0, 0.5, 1, 0.5, 0, 0]
    assert masks[0, 0, :, 4, 2].tolist() == [0, 0.5, 1, 0.5, 0, 0]


def test_the_gradient_of_soft_dice_pulls_labels_over_each_other():
    disp_vox = torch.full((1, 3, 12, 10, 8), 0.4).requires_grad_()
    fixed, moving = (label_masks(blocks(x), torch.tensor([3.0]), 1) for x in (2, 4))
    soft_dice_loss(fixed, moving, disp_vox).backward()
    assert disp_vox.grad[:, 0].sum() < 0  # a longer way along x makes the loss smaller


def test_displacement_loss_is_the_squared_distance():
    a, b = torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 3, 4, 4, 4)
    b[:, 0], b[:, 2] = 3, 4
    assert float(displacement_loss(a, b)) == 25


def test_terms_of_a_guided_pair_are_there_where_they_have_a_weight():
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(feature_channels=(4, 4), update_channels=(4, 4)))
    pairs = [generate_pair(Synthetic.model_validate(FACTORS), [seed], (20, 24, 16)) for seed in range(2)]
    views, guidance = as_views(pairs, 4)
    assert guidance.fixed_masks.shape == guidance.moving_masks.shape == (2, 4, 20, 24, 16)
    every = as_views(pairs, 10)[1].fixed_masks[0]  # five ids without 0, each twice
    assert every.sum() == 2 * (pairs[0].fixed_labels > 0).sum()
    weights = {"ncc_window_vox": 5, "intermediate_weight": 0.0, "diffusion_weight": 0.5}
    losses = LossSettings(ncc_weight=0, dice_weight=2, displacement_weight=0.25, **weights)
    total, terms, _ = pairwise_loss(network, *views, Objective(losses), guidance)
    assert set(terms) == {"loss", "diffusion", "dice", "displacement_error"}
    by_hand = 0.5 * terms["diffusion"] + 2 * (1 - terms["dice"]) + 0.25 * terms["displacement_error"]
    assert total.item() == pytest.approx(by_hand, rel=1e-5)
    _, terms, _ = pairwise_loss(network, *views, Objective(LossSettings(**weights)), guidance)
    assert set(terms) == {"loss", "ncc", "diffusion"}


def test_guidance_by_labels_alone_teaches_to_register(phantom_root, tmp_path):
    """Although the contrasts of a pair have nothing in common, so that no intensities could guide."""
    losses = {"ncc_weight": 0, "dice_weight": 1, "diffusion_weight": 0.05, "intermediate_weight": 0, "dice_labels": 5}
    factors = FACTORS | {"background_probability": 1}
    synthetic = {"share": 1, "factors": factors, "losses": losses}
    stage = STAGE | {"items_per_epoch": 150, "learning_rate": 5e-3, "synthetic": synthetic}
    guided = Recipe.model_validate({**recipe().model_dump(), "stages": [stage]})
    trained, _ = load_weights(train(guided, phantom_root, tmp_path, CPU))
    assert all("ncc" not in entry and "dice" in entry for entry in log_of(tmp_path))
    torch.manual_seed(0)
    untrained = SITReg(guided.network)

    def dice_of_others(network):
        pairs = [generate_pair(Synthetic.model_validate(factors), [9, 9, number], (16, 20, 17)) for number in range(20)]
        views, guidance = as_views(pairs, 5)
        with torch.no_grad():
            return pairwise_loss(network, *views, Objective(LossSettings.model_validate(losses)), guidance)[1]["dice"]

    assert dice_of_others(trained) > dice_of_others(untrained) + 0.008


@pytest.mark.parametrize("kind", ["real", "guided", "generated"])
def test_gradients_add_up_over_parts_of_a_batch(phantom_root, kind):
    losses = LOSSES | ({"dice_weight": 1, "dice_labels": 4} if kind == "guided" else {})
    changes = {"batch_size": 4, "losses": losses, "augmentation": {"noise_std": [0.1, 0.1]}}
    if kind == "generated":
        changes |= {"synthetic": {"share": 1, "factors": FACTORS}}
    outcomes = []
    for at_once in (None, 2, 1):
        stage = Stage.model_validate(STAGE | changes | {"samples_at_once": at_once})
        torch.manual_seed(0)
        network = SITReg(recipe().network).double()  # rounding hides nothing
        images = TrainingImages(phantom_root, with_labels=kind == "guided")
        stepper = step_module.Stepper(network, stage, 0, GroupSampler(images, 0, 0), CPU)
        terms = stepper.take(stepper.batches.load(0))
        outcomes.append((terms, [parameter.grad for parameter in network.parameters()]))
    (terms, gradients), *others = outcomes
    for other_terms, other_gradients in others:
        assert other_terms == pytest.approx(terms, rel=1e-4, abs=1e-6)
        for expected, found in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_parts_that_do_not_count_alike_are_refused(phantom_root):
    stage = Stage.model_validate(STAGE | {"batch_size": 4, "samples_at_once": 3})
    with pytest.raises(RecipeError, match=r"samples_at_once: found 3, which does not divide the 4 samples"):
        share_of_batch(stage, 0, CPU)


def test_a_mixed_run_continues_bit_for_bit(phantom_root, tmp_path, monkeypatch):
    whole = train(recipe(), phantom_root, tmp_path / "whole", CPU)
    log = log_of(tmp_path / "whole")
    assert {"dice" in entry for entry in log} == {True, False}
    take = step_module.Stepper.take

    def cut(stepper, batch):
        if batch.step == 4:
            raise KeyboardInterrupt
        return take(stepper, batch)

    monkeypatch.setattr(step_module.Stepper, "take", cut)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), phantom_root, tmp_path / "cut", CPU)
    monkeypatch.undo()
    continued = train(recipe(), phantom_root, tmp_path / "cut", CPU)
    expected, found = load_file(whole), load_file(continued)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_share_of_generated_steps(phantom_root, share):
    sampler = GroupSampler(TrainingImages(phantom_root), seed=0, stage=0)
    drawn = [sampler.source(step, [share, (1 - share) / 2]) for step in range(2000)]
    assert drawn.count(0) / 2000 == pytest.approx(share, abs=0.04)
    assert drawn.count(1) / 2000 == pytest.approx((1 - share) / 2, abs=0.04)
    assert drawn[:9] == [sampler.source(step, [share, (1 - share) / 2]) for step in range(9)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthetic": {"share": 1.5}}, "less than or equal to 1"),
        ({"synthetic": {"share": -0.1}}, "greater than or equal to 0"),
        ({"synthetic": {"share": 0.5}, "one_image": {"share": 0.6}}, "found 1.1 together; expected at most 1"),
        ({"synthetic": {"share": 0.5, "share_at_end": 0.9}, "one_image": {"share": 0.4}}, "found 1.3 together"),
        ({"synthetic": {"share": 1, "losses": {"group_consistency_weight": 1}}}, "the samples of a source are pairs"),
        ({"synthetic": {"share": 1, "factors": {"labels": 1}}}, "greater than or equal to 2"),
        ({"losses": {"dice_weight": 1, "group_consistency_weight": 1}}, r"losses\.dice_weight: labels guide pairs"),
        ({"losses": {"displacement_weight": 1}}, r"losses\.displacement_weight: real pairs"),
    ],
)
def test_impossible_sources(changes, message):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({**recipe().model_dump(), "stages": [STAGE | changes]})


def test_label_maps_of_real_images_guide(phantom_root, tmp_path):
    losses = LOSSES | {"dice_weight": 1, "dice_labels": 8}
    guided = Recipe.model_validate({**recipe().model_dump(), "stages": [STAGE | {"losses": losses}]})
    train(guided, phantom_root, tmp_path, CPU)
    log = log_of(tmp_path)
    assert all(0.2 < entry["dice"] < 0.9 and "ncc" in entry for entry in log)
    assert log[0]["loss"] == pytest.approx(2 - log[0]["dice"] - log[0]["ncc"] + log[0]["diffusion"], abs=0.02)


def test_the_dice_of_training_is_that_of_the_label_maps(phantom_root):
    """At full resolution and without motion, over all labels: as counted by hand."""
    sampler = GroupSampler(TrainingImages(phantom_root, with_labels=True), seed=0, stage=0)
    fixed, moving = sampler.labels([0])
    count = len(fixed.unique()) - 1
    guidance = guidance_of(fixed, moving, count, [[0]])
    loss = soft_dice_loss(guidance.fixed_masks, guidance.moving_masks, torch.zeros(1, 3, *fixed.shape[2:]))
    ids = [label for label in fixed.unique().tolist() if label]
    dice = [2 * ((fixed == n) & (moving == n)).sum() / ((fixed == n).sum() + (moving == n).sum()) for n in ids]
    assert float(loss) == pytest.approx(1 - float(np.mean(dice)), abs=1e-5)


def test_missing_and_damaged_label_maps_are_named_before_anything_starts(phantom_root, tmp_path):
    root = shutil.copytree(phantom_root, tmp_path / "data")
    (root / "labelsTr" / "LUMIRMRI_0001_0000.nii.gz").unlink()
    with pytest.raises(ManifestError, match="labelsTr/LUMIRMRI_0001_0000"):
        TrainingImages(root, with_labels=True)
    shutil.copy(root / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz", root / "labelsTr" / "LUMIRMRI_0001_0000.nii.gz")
    (root / "labelsTr" / "LUMIRMRI_0002_0000.nii.gz").write_bytes(b"")
    with pytest.raises(VolumeError, match=r"1 training image cannot be used.*\n.*labelsTr/LUMIRMRI_0002_0000"):
        TrainingImages(root, with_labels=True)


def test_few_shot_subsets_are_nested_and_seeded(phantom_root):
    def names(count, seed=0):
        images = TrainingImages(phantom_root, subset=Subset(count, seed))
        assert images.few(None) == list(range(count))
        return [path.name for path in images.paths]

    def few(count, of=None):
        images = TrainingImages(phantom_root, subset=Subset(of))
        return [images.paths[index].name for index in images.few(count)]

    assert few(2) == few(2, of=3) == names(2)
    sampler = GroupSampler(TrainingImages(phantom_root), seed=0, stage=0, n_images=2)
    assert {sampler.images.paths[index].name for n in range(9) for index in sampler.indices(n)} == set(few(2))

    assert set(names(2)) < set(names(3)) < set(names(4))
    assert names(3) == sorted(names(3))
    assert len({tuple(names(2, seed)) for seed in range(8)}) > 1
    with pytest.raises(VolumeError, match="lists 4 training images; the recipe asks for n_images=5"):
        names(5)
