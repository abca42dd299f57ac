"""The names of the challenge's contracts; a file of its own keeps the command's help light."""

from __future__ import annotations

from enum import StrEnum


class ContractName(StrEnum):
    """The year whose mounts are looked for."""

    AUTO = "auto"
    LUMIR_2025 = "lumir2025"
    LUMIR_2024 = "lumir2024"
