"""The fixed and the moving image that a field lies between, where they are given, and how their headers are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lumirkit.registration.grid import Grid
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.image_like import PlacedImage, grid_of, name_of, say_of_header


@dataclass(frozen=True)
class FixedAndMoving:
    """Two images, of which a field may do without either or both."""

    fixed: PlacedImage | None = None
    """The fixed image; without it the fixed grid lies where the field says."""
    moving: PlacedImage | None = None
    """The moving image; without it the moving grid is the fixed one."""
    choice: HeaderChoice = NO_CHOICE
    """What the user says of headers that leave a choice."""

    @cached_property
    def fixed_grid(self) -> Grid | None:
        """The grid of the fixed image, if that is given.

        Raises:
            VolumeError, RequestError: the image cannot be used.
        """
        return None if self.fixed is None else grid_of(self.fixed, "fixed", self.choice)

    @cached_property
    def moving_grid(self) -> Grid | None:
        """The grid of the moving image, if that is given.

        Raises:
            VolumeError, RequestError: the image cannot be used.
        """
        return None if self.moving is None else grid_of(self.moving, "moving", self.choice)

    @property
    def fixed_name(self) -> str:
        """What messages call the fixed image."""
        return name_of(self.fixed, "fixed")

    @property
    def moving_name(self) -> str:
        """What messages call the moving image."""
        return name_of(self.moving, "moving")

    def say_of_headers(self, say: Callable[[str], None]) -> None:
        """Tell where a header leaves a choice that the user has not made.

        Raises:
            VolumeError: a file is missing or not NIfTI.
            RequestError: the orientation that the user says is none.
        """
        for image, role in ((self.fixed, "fixed"), (self.moving, "moving")):
            if image is not None:
                say_of_header(image, role, say, self.choice)


NO_IMAGES = FixedAndMoving()
