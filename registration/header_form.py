"""The two forms in which a NIfTI header can say where its voxels lie."""

from __future__ import annotations

from enum import StrEnum


class HeaderForm(StrEnum):
    """A form of a header."""

    SFORM = "sform"
    """A matrix."""
    QFORM = "qform"
    """A rotation, spacings and an origin."""
