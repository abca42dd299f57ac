"""The architectures to choose from: a configuration names one and describes the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from lumirkit.registration.network import CommonConfig, Network
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.voxelmorph import VoxelMorph, VoxelMorphConfig

_CONFIGS: dict[str, type[CommonConfig]] = {"sitreg": SITRegConfig, "voxelmorph": VoxelMorphConfig}


def _validate_architecture(settings: Any) -> Any:
    """Check settings against the configuration of the architecture that they name.

    Settings without a name are SITReg's: older recipes and weights were made when there was no other architecture.
    """
    if not isinstance(settings, Mapping):
        return settings
    name = settings.get("architecture", "sitreg")
    config = _CONFIGS.get(str(name))
    if config is None:
        raise ValueError(f"architecture: found {name!r}; expected one of {', '.join(_CONFIGS)}")
    return config.model_validate(settings)


NetworkConfig = Annotated[SITRegConfig | VoxelMorphConfig, BeforeValidator(_validate_architecture)]


def make_network(config: NetworkConfig) -> Network:
    """Make the network that a configuration describes, with random weights from torch's global generator."""
    return SITReg(config) if isinstance(config, SITRegConfig) else VoxelMorph(config)
