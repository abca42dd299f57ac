"""Group consistency: around a cycle of three images the composed fields must lead back to where they began.

Source: Honkamaa & Marttinen, MELBA 2024:026 and 2025. The loss couples three registrations, whose graphs together would
need three times the memory of a pair. It reaches the networks through six fields alone, so it is enough to know its
gradient with respect to these (`cycle_gradients`), and to send that through one registration after the other: exact,
in the memory of one pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.network import Registration
from lumirkit.registration.tensors import Volume5d
from lumirkit.registration.warp import compose

CYCLE = ((0, 1), (1, 2), (2, 0))
"""(fixed, moving) of the three pairs: each field leads from its fixed image to the next pair's fixed image."""


def cycle_loss(registrations: Sequence[Registration], mask: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, ""]:
    """Mean over the voxels inside of |C(x) - x|^2, C the composition around the cycle, both ways, halved.

    Lengths are in units in which the largest axis spans [-1, 1], as the weight of the publication expects: a voxel is
    2 / size.

    Args:
        registrations: those of the pairs of `CYCLE`, in their order.
        mask: the mask of the first pair's fixed image, where the cycle begins; nonzero inside.
    """
    first, second, third = registrations
    # Fixed image of pair 1 -> of pair 2 -> of pair 3 -> back; and the inverse fields the other way round from there.
    forward = compose(third.forward_vox, compose(second.forward_vox, first.forward_vox))
    inverse = compose(first.inverse_vox, compose(second.inverse_vox, third.inverse_vox))
    return (_mean_square(forward, mask) + _mean_square(inverse, mask)) / 2


def _mean_square(disp_vox: Tensor, mask: Volume5d) -> Tensor:
    unit = 2 / max(disp_vox.shape[2:])
    inside = (mask > 0).to(disp_vox)
    return (inside * (unit * disp_vox).square().sum(dim=1, keepdim=True)).mean()


@dataclass(frozen=True)
class CycleGradients:
    """The cycle loss and its gradients with respect to the (forward, inverse) fields of each pair."""

    loss: Tensor
    fields_grad: list[tuple[Tensor, Tensor]]


def cycle_gradients(registrations: Sequence[Registration], mask: Volume5d) -> CycleGradients:
    """The value and the gradients of the cycle loss at fields that carry no history."""
    leaves = [
        Registration(r.forward_vox.detach().requires_grad_(), r.inverse_vox.detach().requires_grad_())
        for r in registrations
    ]
    with torch.enable_grad():
        loss = cycle_loss(leaves, mask)
    flat = torch.autograd.grad(loss, [field for leaf in leaves for field in (leaf.forward_vox, leaf.inverse_vox)])
    return CycleGradients(loss.detach(), list(zip(flat[::2], flat[1::2], strict=True)))


def pull(registration: Registration, fields_grad: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    """A scalar whose gradient with respect to the network is that of the cycle loss through these two fields."""
    forward_grad, inverse_grad = fields_grad
    return (registration.forward_vox * forward_grad).sum() + (registration.inverse_vox * inverse_grad).sum()
