"""The folder of one training run: recipe, log, checkpoints, weights. Killing and restarting a run continues it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

from data_manifests.worklist import require_writable
from registration.sitreg import SITReg
from registration.volume import write_atomically, write_text_atomically
from registration.weights import WeightsCard, save_weights
from train.recipe import Recipe, RecipeError, recipe_yaml

_KEPT_CHECKPOINTS = 2
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path, recipe: Recipe, data: Path) -> None:
        """Create the folder, or open the one of an interrupted run of the same recipe.

        Raises:
            RecipeError: the folder belongs to a run of another recipe.
            RequestError: the folder cannot be made or is not writable.
        """
        require_writable(path)
        self.path, self.recipe = path, recipe
        self._provenance = {"data": data.resolve().name, "commit": _git_commit()} | {
            package: version(package) for package in ("lumirkit", "torch", "numpy")
        }
        stored = path / "recipe.yaml"
        if stored.exists() and stored.read_text(encoding="utf-8") != recipe_yaml(recipe):
            raise RecipeError(
                f"{stored}: this folder holds a run of a different recipe. Give another --out, or delete the folder."
            )
        write_text_atomically(stored, recipe_yaml(recipe))
        write_text_atomically(path / "provenance.json", json.dumps(self._provenance, indent=1) + "\n")

    @property
    def weights(self) -> Path:
        """The run's newest weights."""
        return self.path / "weights" / f"{self.recipe.name}_seed{self.recipe.seed}.safetensors"

    def log(self, entry: Mapping[str, float | int | str]) -> None:
        """Append one line to log.jsonl."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def truncate_log(self, step: int) -> None:
        """Drop the lines after `step`, which an interrupted run wrote and the continued run will write again."""
        path = self.path / "log.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            write_text_atomically(path, "".join(kept))

    def save(self, network: SITReg, optimizer: torch.optim.Optimizer, stage: int, step: int) -> None:
        """Write a checkpoint and the weights; older checkpoints than the last two are removed."""
        tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
        state = get_optimizer_state_dict(network, optimizer, options=_FLAT)
        tensors |= {f"optimizer/{name}": value for name, value in state.items() if isinstance(value, Tensor)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path = self.path / "checkpoints" / f"step_{step:08d}.safetensors"
        metadata = {"stage": str(stage), "step": str(step)}
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
        card = WeightsCard(
            network=network.config,
            recipe=self.recipe.model_dump(mode="json"),
            seed=self.recipe.seed,
            steps=step,
            provenance=self._provenance,
        )
        save_weights(self.weights, network, card)
        for old in self._checkpoints()[:-_KEPT_CHECKPOINTS]:
            old.unlink()

    def last_step(self) -> int:
        """Step of the newest checkpoint; 0 for a new run."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return 0
        with safe_open(checkpoints[-1], framework="pt") as file:
            return int(file.metadata()["step"])

    def restore_network(self, network: SITReg) -> None:
        """Load the network's weights from the newest checkpoint, if there is one."""
        if self._checkpoints():
            network.load_state_dict(self._tensors("network/"))

    def restore_optimizer(self, network: SITReg, optimizer: torch.optim.Optimizer) -> None:
        """Load the optimizer's moments from the newest checkpoint; its learning rate stays the stage's own."""
        template = get_optimizer_state_dict(network, optimizer, options=_FLAT)
        flat: dict[str, Any] = {**template, **self._tensors("optimizer/")}
        set_optimizer_state_dict(network, optimizer, flat, options=_FLAT)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step_*.safetensors"))

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        with safe_open(self._checkpoints()[-1], framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  not a dict
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _git_commit() -> str:
    """Commit of the code, `unknown` where it does not run from a clone."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
