"""The flow of a stationary velocity field: a diffeomorphism, and its inverse by changing the sign.

Source: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006.
"""

from __future__ import annotations

from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.warp import compose

SQUARINGS = 6  # the velocity is divided by 64 first, so a displacement of six voxels takes steps of a tenth


def exponential(velocity_vox: DisplacementVox, squarings: int = SQUARINGS) -> DisplacementVox:
    """Follow `velocity_vox` (voxels a unit of time) up to time 1, by scaling and squaring; differentiable.

    Returns:
        The displacement in voxels.
    """
    disp_vox = velocity_vox / 2**squarings
    for _ in range(squarings):
        disp_vox = compose(disp_vox, disp_vox)
    return disp_vox
