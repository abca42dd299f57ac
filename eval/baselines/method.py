"""A reference method: a frozen dataclass whose fields are all its settings, and calling it registers one pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.extras import require_extra
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Baseline(ABC):
    """A reference method; its dataclass fields are its settings."""

    package: ClassVar[str | None] = None
    """Name of the distribution the method comes from; None where it needs none."""

    @abstractmethod
    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register two images of one shape; returns the pull-back displacement on the fixed grid in voxels."""

    def package_version(self) -> str | None:
        """Version of the installed package; None where the method needs none.

        Raises:
            RequestError: the package is not installed.
        """
        if self.package is None:
            return None
        require_extra(f"the baseline {type(self).__name__}", "baselines", self.package)
        return version(self.package)
