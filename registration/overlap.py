"""What two brains show at the same places, through a field between them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lumirkit.registration.network import Image
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.warp import sample

ImageAndMask = Float[Tensor, "batch 2 x y z"]

_BRAIN = 0.5  # share of a warped voxel that has to be brain


def where_mostly_brain(fixed: ImageAndMask, moving: ImageAndMask, disp_vox: DisplacementVox) -> tuple[Image, Image]:
    """The fixed and the warped moving image, 0 where one of them is mostly background.

    Only the moving brain's own voxels are averaged. So the outline is as bright as the brain, and a field that moves by
    a little cuts no voxels off, as it does in training: descent compares losses that differ by little.
    """
    image, mask = fixed.chunk(2, dim=1)
    warped, share = sample(moving, disp_vox, "zeros").chunk(2, dim=1)
    both = (share >= _BRAIN).to(mask) * mask
    return image * both, warped * (both / share.clamp(min=_BRAIN))
