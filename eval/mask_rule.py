"""Which image tells where the brain is; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class MaskRule(StrEnum):
    """The image whose non-zero voxels are the brain that folding is measured in."""

    LUMIR_2024 = "2024"
    """The moving image."""
    LUMIR_2025 = "2025"
    """The fixed image."""
