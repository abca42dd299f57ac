"""The half-way space of a symmetric registration, and the mappings that lead from it to both images and back.

Both directions are one batch, [moving, fixed], so that exchanging the halves exchanges the roles of the images.

Source: Honkamaa & Marttinen, MELBA 2024:026.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lumirkit.registration.inverse import invert
from lumirkit.registration.network import BothHalves, Registration
from lumirkit.registration.resolution import displacement_at_block_centres, refine_displacement
from lumirkit.registration.warp import compose


@dataclass(frozen=True)
class Halves:
    """The mappings between the half-way space and both images, on one grid, both halves in one batch.

    `to_images` holds LF and RF, from the half-way space to the moving and to the fixed image. `from_other` holds the
    inverses of the other half, RI and LI. So to_images o from_other leads from one image to the other. None is the
    identity.
    """

    to_images: BothHalves | None = None
    from_other: BothHalves | None = None

    def at_block_centres(self, stride: int) -> BothHalves | None:
        """Read `to_images` at the block centres of a level, in voxels of that level."""
        return None if self.to_images is None else displacement_at_block_centres(self.to_images, stride)

    def coarsened(self, stride: int) -> Halves:
        """Read all mappings at the block centres of a coarser grid, in its voxels; there they are nearly inverses."""
        if self.to_images is None or self.from_other is None:
            return self
        return Halves(*(displacement_at_block_centres(both, stride) for both in (self.to_images, self.from_other)))

    def refined(self, stride: int, shape: Sequence[int]) -> Halves:
        """Carry the mappings to a finer grid of a shape (X, Y, Z), in its voxels, where they are inverses again.

        `to_images` is read between its voxels, and what is read is inverted there: inverses that are read between
        voxels, as well, differ from it by what linear interpolation costs where mappings bend.
        """
        if stride == 1 or self.to_images is None:
            return self
        to_images = refine_displacement(self.to_images, stride, shape)
        return Halves(to_images, _swap(invert(to_images)))

    def updated(self, phi_psi: BothHalves) -> Halves:
        """Compose with delta = phi o psi^-1 on the moving side and with delta^-1 = psi o phi^-1 on the fixed side.

        LI becomes delta^-1 o LI and RI delta o RI; with the halves exchanged that is the same composition for both.
        """
        delta = compose(phi_psi, _swap(invert(phi_psi)))
        if self.to_images is None or self.from_other is None:
            return Halves(delta, delta)
        return Halves(compose(self.to_images, delta), compose(delta, self.from_other))

    def parted(self, phi_psi: BothHalves) -> Halves:
        """Compose with phi on the moving side and with psi on the fixed side; the half-way space moves with them.

        The registration becomes LF o phi o psi^-1 o RI: half of what `updated` does with the same fields, for one
        composition less.
        """
        inverses = _swap(invert(phi_psi))
        if self.to_images is None or self.from_other is None:
            return Halves(phi_psi, inverses)
        return Halves(compose(self.to_images, phi_psi), compose(inverses, self.from_other))

    def registration(self) -> Registration:
        """Compose the fields between the images: forward = LF o RI and inverse = RF o LI."""
        assert self.to_images is not None and self.from_other is not None
        forward, inverse = compose(self.to_images, self.from_other).chunk(2)
        return Registration(forward, inverse)


def _swap(both: BothHalves) -> BothHalves:
    """Exchange the halves of the batch."""
    first, second = both.chunk(2)
    return torch.cat([second, first])
