"""Registration of full-size images, whatever the grid of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumirkit.registration.network import Image, Registering, Registration
from lumirkit.registration.resolution import refine_displacement
from lumirkit.registration.second_look import registered_in_one_contrast
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.trust import try_kernels


@dataclass(frozen=True)
class FullSizeRegistration:
    """The registration on the network's own grid, which gives the fields in voxels of the images on request."""

    on_network_grid: Registration
    stride: int
    shape: Sequence[int]

    @property
    def forward_vox(self) -> DisplacementVox:
        """The field on the fixed image: warped(p) = moving(p + forward(p))."""
        return refine_displacement(self.on_network_grid.forward_vox, self.stride, self.shape)

    @property
    def inverse_vox(self) -> DisplacementVox:
        """The field on the moving image, which points into the fixed one."""
        return refine_displacement(self.on_network_grid.inverse_vox, self.stride, self.shape)


def register_full_size(network: Registering, fixed: Image, moving: Image) -> FullSizeRegistration:
    """Register full-size images, intensities 0…255, with one network or an ensemble.

    Raises:
        ValueError: the network harmonises images and has not been fitted to any.
    """
    config = network.config
    try_kernels(fixed.device, fixed.dtype)

    def register(fixed: Image, moving: Image) -> Registration:
        return network.registrations(fixed, moving, every_level=False)[-1]

    coarse = config.coarsened(fixed), config.coarsened(moving)
    found = registered_in_one_contrast(network, *coarse, register, registration_of=lambda registration: registration)
    return FullSizeRegistration(found, config.resolution_vox, fixed.shape[2:])
