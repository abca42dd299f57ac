"""A scan with its brain found, its bias taken out, and its place in the frame of the template known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray
from scipy.ndimage import affine_transform

from lumirkit.base.errors import VolumeError
from lumirkit.prepare.alignment import Alignment, aligned, aligned_brain, in_place
from lumirkit.prepare.bias import without_bias
from lumirkit.prepare.frame import as_bytes, brightest, inside_in_frame
from lumirkit.prepare.quality import Quality, measured
from lumirkit.prepare.read_head import read_head
from lumirkit.prepare.sources import Scan
from lumirkit.prepare.stripping import Brain, Stripping, found_brain, own_brain, require_brain
from lumirkit.registration.any_pair.frame import resampled
from lumirkit.registration.grid import Grid
from lumirkit.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class FramedScan:
    """A scan on the frame, as the challenge's images are."""

    head: Volume
    """With its skull, in the scan's own intensities."""
    inside: Bool[ndarray, "x y z"]
    bright: float
    """The intensity that becomes 255."""
    voxels: UInt8[ndarray, "x y z"]
    """The brain, 1 to 255, on background 0."""
    quality: Quality


@dataclass(frozen=True, eq=False)
class AlignedScan:
    """A scan without bias, its brain, and where the frame lies in it."""

    scan: Scan
    head: Volume
    brain: Brain
    bias: str
    alignment: Alignment

    @property
    def stripped(self) -> Volume:
        """The brain alone."""
        return _within(self.head, self.brain.inside)

    @property
    def there(self) -> Volume:
        """The head as if it lay where the frame does; no voxel changes."""
        return in_place(self.head, self.alignment)

    def in_frame(self, frame: Grid, template: Bool[ndarray, "x y z"]) -> FramedScan:
        """Interpolate the scan, once.

        Args:
            template: the voxels of the frame that the template's brain fills.

        Raises:
            VolumeError: the brain is dark everywhere.
        """
        there = self.there
        inside = inside_in_frame(self.brain.inside, there, frame)
        head = resampled(there, frame)
        bright = brightest(head, inside)
        voxels = as_bytes(head, inside, bright)
        scanned = np.count_nonzero(self.brain.inside)
        volumes = (scanned * abs(np.linalg.det(image.affine[:3, :3])) for image in (self.head, there))
        return FramedScan(head, inside, bright, voxels, measured(voxels, template, *volumes))


def onto_template(scan: Scan, template: Volume, stripping: Stripping) -> AlignedScan:
    """Strip a scan, take out its bias, and align it to the template.

    Raises:
        VolumeError: it cannot be used, or shows no whole brain.
    """
    head = read_head(scan.image)
    brain = own_brain(head, scan, stripping) or found_brain(head, scan, stripping)
    require_brain(brain, head, template)
    head, bias = without_bias(head, brain.inside)
    alignment = aligned_brain(template, _within(head, brain.inside))
    return AlignedScan(scan, head, brain, bias, alignment)


def onto_reference(scan: Scan, reference: AlignedScan, stripping: Stripping) -> AlignedScan:
    """Align another scan of a subject rigidly, brain to brain, or head to head where it has no mask of its own.

    Raises:
        VolumeError: it cannot be used, or shows nothing of the reference's brain.
    """
    head = read_head(scan.image)
    brain = own_brain(head, scan, stripping)
    if brain is not None:
        rigid = aligned(reference.stripped, _within(head, brain.inside), rigid=True)
    elif reference.brain.is_stripped:
        raise VolumeError(
            f"{scan.image}: found a whole head beside {reference.scan.image.name}, which is stripped; expected both as "
            "heads or both as brains. Give a brain mask of this scan."
        )
    else:
        rigid = aligned(reference.head, head, rigid=True)
        brain = Brain(_carried(reference, head, rigid), f"mask of {reference.scan.image.name}")
    head, bias = without_bias(head, brain.inside)
    how = f"{rigid.how} onto {reference.scan.image.name}, {reference.alignment.how} to the template"
    return AlignedScan(scan, head, brain, bias, Alignment(rigid.matrix @ reference.alignment.matrix, how))


def _carried(reference: AlignedScan, head: Volume, rigid: Alignment) -> Bool[ndarray, "x y z"]:
    """The brain of the reference as voxels of another scan.

    Raises:
        VolumeError: nothing of it lies there.
    """
    matrix = np.linalg.inv(rigid.matrix @ reference.head.affine) @ head.affine
    values = reference.brain.inside.astype(np.uint8)
    inside = affine_transform(values, matrix, output_shape=head.shape, order=0, mode="grid-constant") > 0
    if not inside.any():
        raise VolumeError(f"{head.name}: shows nothing of the brain of {reference.scan.image}. Look at both images.")
    return inside


def _within(head: Volume, inside: Bool[ndarray, "x y z"]) -> Volume:
    return replace(head, data=np.where(inside, head.data, np.float32(0)))
