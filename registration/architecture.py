"""The architectures to choose from: which one a configuration names, and the network that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from lumirkit.registration.network import CommonConfig, Network
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.voxelmorph import VoxelMorph, VoxelMorphConfig

_CONFIGS: dict[str, type[CommonConfig]] = {"sitreg": SITRegConfig, "voxelmorph": VoxelMorphConfig}


def _of_its_architecture(settings: Any) -> Any:
    """Check settings as those of the architecture they name.

    Without a name they are SITReg's, as in recipes and weights from before there was another one.
    """
    if not isinstance(settings, Mapping):
        return settings
    name = settings.get("architecture", "sitreg")
    config = _CONFIGS.get(str(name))
    if config is None:
        raise ValueError(f"architecture: found {name!r}; expected one of {', '.join(_CONFIGS)}")
    return config.model_validate(settings)


NetworkConfig = Annotated[SITRegConfig | VoxelMorphConfig, BeforeValidator(_of_its_architecture)]


def make_network(config: NetworkConfig) -> Network:
    """A network with random weights, drawn from torch's global generator."""
    return SITReg(config) if isinstance(config, SITRegConfig) else VoxelMorph(config)
