"""Contrast harmonisation: an image of any contrast gets the contrast of a reference, T2w that of T1w for example.

Anatomy tells what an intensity means. Scaled to their bounding boxes, brains of one orientation overlap well enough to
ask how bright the reference is, on average, where an image has a given intensity. This curve need not be monotonic. It
is applied to the image, and the result gets the reference's mean and standard deviation. Each image is harmonised
without regard to the other one, so a registration keeps its symmetry and inverse consistency, and monotonic changes of
an image's intensities leave the result as it is. The curve is a conditional mean as in the correlation ratio of Roche
et al., MICCAI 1998; to use it as a network's input is new here.

The brain's rim, as thick as a voxel of the network's grid, is harmonised apart from the rest. Skull-stripping leaves
parts of dura and sinuses there, which are as dark in T2w images as white matter and would be taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lumirkit.registration.smoothing import gaussian_weights
from lumirkit.registration.tensors import Volume5d

_EDGE = 40  # points of the reference along each axis of the box
_OUTSIDE = 0.01  # share of the brain's voxels beyond either end of the box, along each axis
_BINS = 64  # bins of the curve; each holds equally many voxels of the image
_SMOOTHING_BINS = 1.0
_PRIOR_POINTS = 1e-3  # every bin counts so many points of the reference's overall brightness
_DARKEST = 1 / 255  # the least intensity of a brain's voxel, so that it does not become background
_FEWEST_POINTS = 1000

Box = Float[Tensor, "x y z"]
Mask = Bool[Tensor, "x y z"]
Points = Float[Tensor, "u v w"]


class Harmonisation(nn.Module):
    """The reference of one contrast, to which images of other contrasts are harmonised."""

    anatomy: Box
    """The reference brains' mean intensity, 0…1, at points of their boxes; 0 where at most half of them have brain."""
    moments: Float[Tensor, "2 2"]
    """The mean and the standard deviation of the reference brains' intensities 0…1: of the rim, then of the rest."""

    def __init__(self, rim_vox: int = 1) -> None:
        """Make an empty reference; `rim_vox` is the thickness of the brain's rim in voxels of the images."""
        super().__init__()
        self._rim_vox = rim_vox
        self.register_buffer("anatomy", torch.zeros(_EDGE, _EDGE, _EDGE))
        self.register_buffer("moments", torch.zeros(2, 2))

    @property
    def is_fitted(self) -> bool:
        """Whether the reference has been made."""
        return bool((self.moments > 0).any())

    def fit(self, brains: Iterable[Volume5d]) -> None:
        """Make the reference from brains (1, 1, X, Y, Z) of one contrast, intensities 0…1 and background 0.

        Raises:
            ValueError: an image shows no brain that has an inside, or the brains do not overlap.
        """
        total, showing = torch.zeros_like(self.anatomy), torch.zeros_like(self.anatomy)
        moments, count = torch.zeros_like(self.moments), 0
        for brain in brains:
            image = brain[0, 0]
            parts = _rim_and_rest(image > 0, self._rim_vox)
            if not all(part.any() for part in parts):
                raise ValueError("a training image shows no brain, or single layers; expected a brain on background 0")
            boxed = _at(_places(image > 0), image)
            total, showing, count = total + boxed, showing + (boxed > 0), count + 1
            moments += torch.stack([_moments(image[part]) for part in parts])
        shared = 2 * showing > count
        if int(shared.sum()) < _FEWEST_POINTS:
            raise ValueError("the training images share no place inside their brains; expected brains on background 0")
        self.anatomy.copy_(shared * total / showing.clamp(min=1))
        self.moments.copy_(moments / count)

    @torch.no_grad()
    def forward(self, images: Volume5d) -> Volume5d:
        """Give images (batch, 1, X, Y, Z) the reference's contrast; intensities 0…1, and 0 outside the brain.

        An image that shows nothing stays as it is.

        Raises:
            ValueError: the reference has not been made.
        """
        if not self.is_fitted:
            raise ValueError("the network has no reference to harmonise images with; train it, or load its weights")
        return torch.stack([self._harmonised(image) for image in images[:, 0]])[:, None]

    @torch.no_grad()
    def carried_from(self, image: Volume5d, other: Volume5d) -> Volume5d:
        """Give an image the contrast of another one that lies on it, in place of that of the reference.

        Args:
            image: (1, 1, X, Y, Z), intensities 0…1, and 0 outside the brain.
            other: a harmonised image of the same shape, warped onto `image`.
        """
        return self._carried_by_parts(image[0, 0], lambda volume: volume, other[0, 0])[None, None]

    @torch.no_grad()
    def likeness(self, image: Volume5d) -> float:
        """The correlation of an image (1, 1, X, Y, Z) with the reference's anatomy, at points of the brain's box.

        It is 0 where the image shows nothing, or one value.
        """
        brain = image[0, 0]
        boxed = _at(_places(brain > 0), brain)
        known = (boxed > 0) & (self.anatomy > 0)
        if not known.any():
            return 0.0
        return torch.corrcoef(torch.stack([boxed[known], self.anatomy[known]]))[0, 1].nan_to_num(0).item()

    def _harmonised(self, image: Box) -> Box:
        inside = image > 0
        if not inside.any():
            return image
        places = _places(inside)
        return self._carried_by_parts(image, lambda volume: _at(places, volume), self.anatomy)

    def _carried_by_parts(self, image: Box, at: Callable[[Tensor], Tensor], other: Points) -> Box:
        """Give the rim and the rest of an image another's contrast; `at` reads volumes at the other's points."""
        points, carried = at(image), torch.zeros_like(image)
        for part, moments in zip(_rim_and_rest(image > 0, self._rim_vox), self.moments, strict=True):
            if part.any():
                known = at(part) & (other > 0)
                carried[part] = _carried(image[part], points[known], other[known], moments)
        return carried


def _rim_and_rest(inside: Mask, rim_vox: int) -> tuple[Mask, Mask]:
    """Split a brain's voxels into the outermost layers and all others."""
    rest = F.pad(inside, (rim_vox,) * 6)
    for axis in range(3):  # a cube of voxels is inside if it is so along each axis
        rest = reduce(torch.logical_and, rest.unfold(axis, 2 * rim_vox + 1, 1).unbind(-1))
    return inside & ~rest, rest


def _places(inside: Mask) -> list[Int64[Tensor, " place"]]:
    """Find the voxels nearest to the reference's points in a brain's box, as indices along each axis."""
    places = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        share = inside.sum(dim=others).cumsum(0) / inside.sum()
        low, high = (int((share < edge).sum()) for edge in (_OUTSIDE, 1 - _OUTSIDE))
        places.append(torch.linspace(low, high, _EDGE, device=inside.device).round().long())
    return places


def _at(places: Sequence[Int64[Tensor, " place"]], volume: Tensor) -> Tensor:
    """Read a volume (X, Y, Z) at places, which are indices along each axis."""
    for axis, indices in enumerate(places):
        volume = volume.index_select(axis, indices)
    return volume


def _carried(
    values: Float[Tensor, " voxel"],
    known: Float[Tensor, " point"],
    reference: Float[Tensor, " point"],
    moments: Float[Tensor, " 2"],
) -> Float[Tensor, " voxel"]:
    """Map a part's intensities to those of the reference.

    Args:
        values: the intensities of the part's voxels.
        known: the image's intensities at points where image and reference both show the part.
        reference: the reference's intensities at these points.
        moments: the mean and the standard deviation that the result gets.
    """
    distinct, where, counts = values.unique(return_inverse=True, return_counts=True)
    # The share, 0…1, of the values that is smaller; equal ones count half.
    ranks = (2 * counts.cumsum(0) - counts) / (2 * len(values))
    curve = _conditional_mean(ranks[torch.searchsorted(distinct, known)], reference)
    meant = read_curve(curve, ranks * _BINS - 0.5)[where]
    (mean, spread), (wanted_mean, wanted_spread) = _moments(meant), moments
    gain = wanted_spread / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    return (wanted_mean + gain * (meant - mean)).clamp(_DARKEST, 1)


def _moments(values: Float[Tensor, " voxel"]) -> Float[Tensor, " 2"]:
    return torch.stack([values.mean(), values.std(correction=0)])


def _conditional_mean(ranks: Float[Tensor, " point"], reference: Float[Tensor, " point"]) -> Float[Tensor, " bin"]:
    """The reference's mean intensity in each bin of ranks, smoothed over the bins; empty bins get its overall mean."""
    bins = (ranks * _BINS).long().clamp(max=_BINS - 1)
    counts = torch.bincount(bins, minlength=_BINS).to(reference)
    sums = torch.zeros_like(counts).index_add_(0, bins, reference)
    radius = round(4 * _SMOOTHING_BINS)
    weights = gaussian_weights(_SMOOTHING_BINS, radius).to(reference)[None, None]
    counts, sums = (F.conv1d(each[None, None], weights, padding=radius)[0, 0] for each in (counts, sums))
    overall = reference.sum() / max(len(reference), 1)
    return (sums + _PRIOR_POINTS * overall) / (counts + _PRIOR_POINTS)


def read_curve(curve: Float[Tensor, " knot"], position: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Read a curve at positions counted in knots: linear between the knots, constant beyond the first and the last."""
    position = position.clamp(0, len(curve) - 1)
    below = position.long().clamp(max=len(curve) - 2)
    return torch.lerp(curve[below], curve[below + 1], position - below)
