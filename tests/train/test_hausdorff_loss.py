"""The Hausdorff loss on shapes whose distances are known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from lumirkit.train.hausdorff_loss import hausdorff_loss, outline

SHAPE = (30, 12, 14)


def box(start, size=8, shape=SHAPE, across=slice(None)):
    """A box along the first axis; across the others it fills the grid or a part of it."""
    masks = torch.zeros(1, 1, *shape)
    masks[:, :, start : start + size, across, across] = 1
    return masks


def moved(by, shape=SHAPE):
    field = torch.zeros(1, 3, *shape)
    field[:, 0] = by
    return field


def loss_of(fixed, moving, disp_vox=None, **options):
    field = moved(0, fixed.shape[2:]) if disp_vox is None else disp_vox
    return float(hausdorff_loss(outline(fixed, **options), outline(moving, **options), field))


def test_equal_masks_lose_nothing():
    assert loss_of(box(5), box(5)) == 0
    assert loss_of(box(5), box(8), moved(3)) == 0


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [8, 12])
def test_shifted_boxes(shift, size):
    """Either end has layers of distances 1…s from one border and s…1 from the other; a border has two sides."""
    expected = shift * (shift + 1) * (2 * shift + 1) / 12
    assert loss_of(box(6, size), box(6 + shift, size)) == pytest.approx(expected)


def test_distances_are_those_of_scipy_up_to_the_farthest():
    masks = torch.cat([box(3, across=slice(2, 7)), box(12, 3, across=slice(5, 6)), box(0)], dim=1)
    for farthest in (3, 12):
        found = outline(masks, farthest).distances_vox[0].numpy()
        for mask, distances in zip(masks[0].numpy() > 0, found, strict=True):
            expected = distance_transform_edt(mask) + distance_transform_edt(~mask)
            np.testing.assert_allclose(distances, np.minimum(expected, farthest), rtol=1e-6)


def test_it_falls_all_the_way_to_the_target_also_without_overlap():
    fixed, moving = box(4, 6), box(17, 6)  # 13 voxels apart: first side by side, at last in place
    losses = [loss_of(fixed, moving, moved(by), farthest_vox=30) for by in torch.arange(0, 13.5, 0.5).tolist()]
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] == 0


def test_the_gradient_pulls_to_the_target_from_both_sides():
    fixed, moving = outline(box(10)), outline(box(13))
    slopes = []
    for by in (1.0, 2.5, 3.5, 5.0):  # the target is reached at 3
        shift = torch.tensor(by, requires_grad=True)
        hausdorff_loss(fixed, moving, moved(0) + torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1, 1) * shift).backward()
        slopes.append(float(shift.grad))
    assert slopes[0] < slopes[1] < 0 < slopes[2] < slopes[3]


def test_a_missed_voxel_is_drawn_from_afar():
    """Where the moving mask is flat, and the soft Dice has no gradient, its distance still has one."""
    disp_vox = moved(0).requires_grad_()
    hausdorff_loss(outline(box(4, 6)), outline(box(17, 6)), disp_vox).backward()
    along = disp_vox.grad[0, 0, :, 6, 6]
    assert (along[5:9] < 0).all()  # descending, these voxels read farther on, where the label is
    assert disp_vox.grad[:, 1:].abs().max() == 0


def test_a_label_twice_as_large_loses_as_much_for_the_same_shift():
    shape = (40, 40, 40)
    small, large = slice(14, 26), slice(8, 32)
    losses = [
        loss_of(box(start, size, shape, part), box(start + 2, size, shape, part))
        for start, size, part in ((13, 12, small), (7, 24, large))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("other", [box(5), torch.zeros_like(box(5)), torch.ones_like(box(5))], ids=str)
def test_masks_without_border(other):
    for empty in (torch.zeros_like(other), torch.ones_like(other)):
        for pair in ((empty, other), (other, empty)):
            disp_vox = moved(0).requires_grad_()
            loss = hausdorff_loss(outline(pair[0]), outline(pair[1]), disp_vox)
            loss.backward()
            assert loss.isfinite()
            assert disp_vox.grad.isfinite().all()
    assert loss_of(torch.zeros_like(other), torch.zeros_like(other)) == 0


def test_masks_and_batch_are_averaged():
    near, far = (box(6), box(7)), (box(6), box(9))
    alone = [loss_of(*pair) for pair in (near, far)]
    labels = [torch.cat(place, dim=1) for place in zip(near, far, strict=True)]
    batch = [torch.cat(place, dim=0) for place in zip(near, far, strict=True)]
    assert loss_of(*labels) == pytest.approx(np.mean(alone))
    assert loss_of(*batch, moved(0).expand(2, -1, -1, -1, -1).contiguous()) == pytest.approx(np.mean(alone))


def test_gradients():
    torch.manual_seed(0)
    masks = [outline((torch.rand(1, 2, 5, 6, 5) > 0.6).double()) for _ in range(2)]
    field = (0.3 * torch.randn(1, 3, 5, 6, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: hausdorff_loss(*masks, u), (field,), atol=1e-6)
