"""The folder of one training run: recipe, log, checkpoints, weights. Killing and restarting a run continues it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lumirkit.base.errors import KitError, RequestError
from lumirkit.base.files import (
    append_text,
    require_writable,
    write_atomically,
    write_bytes_atomically,
    write_text_atomically,
)
from lumirkit.base.outputs import require_apart
from lumirkit.base.training_log import STEPS, VALIDATIONS, read_log
from lumirkit.registration.weights import WeightsCard, save_weights
from lumirkit.train.model import Model
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import Recipe, RecipeError, recipe_yaml


class CheckpointError(KitError, OSError):
    """A checkpoint could not be written; the message says why and from where the run continues."""

    exit_status = 1


class RunFolder:
    """Reads and writes the files of one run; of several processes, only the first one writes."""

    def __init__(self, path: Path, recipe: Recipe, start: Path | None = None) -> None:
        """Name the folder; nothing is read or written yet.

        Args:
            start: folder of a finished run of this recipe's first stages; a new run begins where that one ended.
        """
        self.path, self.recipe, self._start = path, recipe, start
        self._provenance: dict[str, str] = {}
        self.remark = ""
        """What is to be said of the images that the run is continued on."""

    def prepare(self, data: Path, images_sha256: str, processes: Processes, allow_other_images: bool = False) -> None:
        """Make the folder, or take over that of an interrupted run of the same recipe on the same images.

        Args:
            images_sha256: the hash of the training images, see `TrainingImages`.
            allow_other_images: go on where what was trained so far was trained on others, and note it.

        Raises:
            RecipeError: the folder belongs to a run on other images, or that which it starts from does, or did not end
                with a stage of this recipe.
        """
        earlier_images = self._compare_images(data, images_sha256, allow_other_images)
        self._provenance = {
            "data": data.resolve().name,
            "images_sha256": images_sha256,
            "commit": _git_commit(),
            "device": processes.device.type,
            "processes": str(processes.size),
        } | {package: version(package) for package in ("lumirkit", "torch", "numpy")}
        if earlier_images:
            self._provenance["earlier_images"] = earlier_images
        if self._start is not None:
            self._provenance["started_from"] = f"{self._start.parent.name}/{self._start.name}"
        write_text_atomically(self._stored_recipe, recipe_yaml(self.recipe))
        write_text_atomically(self._stored_provenance, json.dumps(self._provenance, indent=1) + "\n")
        for name in (STEPS, VALIDATIONS):
            self._truncate(name, self.last_step())
        if self._start is not None and self.last_step() == 0:
            self._take_over(self._start)

    def require_own(self) -> None:
        """Check that the folder can be written, holds no run of another recipe, and replaces no file of this one.

        Raises:
            RecipeError: it holds another one.
            RequestError: it cannot be made or is not writable, or the initial weights would be replaced.
        """
        require_writable(self.path)
        require_apart([self.weights, self.best_weights], [self.recipe.initial_weights])
        stored = self._stored_recipe
        if stored.exists() and stored.read_text(encoding="utf-8") != recipe_yaml(self.recipe):
            raise RecipeError(
                f"{stored}: this folder holds a run of a different recipe. Give another --out, or delete the folder."
            )

    @contextmanager
    def alone(self, processes: Processes) -> Iterator[None]:
        """Let no other command train in this folder meanwhile.

        The first process holds a lock, which the system frees when that process ends, however it ends.

        Raises:
            RequestError: another command trains in it, which every process is told.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        taken = False
        try:
            if processes.is_first:
                lock.acquire()
        except Timeout:
            taken = True
        try:
            if processes.any(taken):
                raise RequestError(
                    f"{self.path}: found another process that trains in this folder; expected one command at a time. "
                    "Wait until it ends, or give another --out."
                )
            yield
        finally:
            lock.release()

    @property
    def _stored_recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def _stored_provenance(self) -> Path:
        return self.path / "provenance.json"

    def _compare_images(self, data: Path, images_sha256: str, allow_other: bool) -> str:
        """Check that what was trained so far, here or where the run starts, was trained on these images.

        Returns:
            What `provenance.json` is to say of other images that were trained on before; nothing where there were none.
        """
        begun = RunFolder(self._start, self.recipe) if self._start is not None and self.last_step() == 0 else self
        step = begun.last_step()
        if step == 0:
            return ""
        stored = begun._read_provenance()
        found, earlier = stored.get("images_sha256"), stored.get("earlier_images", "")
        if found == images_sha256:
            return earlier
        if found is None:
            self.remark = (
                f"{begun.path}: does not say on which images it was trained until step {step}; it is continued on "
                f"those of {data}, which nobody has compared with them"
            )
        elif allow_other:
            self.remark = (
                f"{begun.path}: was trained until step {step} on other images; it is continued on those of {data}"
            )
        else:
            raise RecipeError(
                f"{data}: found other training images than those that {begun.path} was trained on, which lay in a "
                f"folder called {stored.get('data')}; expected the same files in the same order. Give those, or "
                "another --out, or go on with these by `lumirkit train --allow-other-images`."
            )
        return f"{earlier}{', ' if earlier else ''}{found or 'unknown'} until step {step}"

    def _read_provenance(self) -> dict[str, str]:
        """What an earlier call noted; nothing where there is no such file."""
        path = self._stored_provenance
        if not path.exists():
            return {}
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RecipeError(
                f"{path}: found no JSON object ({error}); expected what an earlier call wrote. Restore the file; "
                "without it the run is continued, and its images are not compared."
            ) from error

    def _take_over(self, start: Path) -> None:
        """Copy what a run of the first stages has told and its last checkpoint, which comes last and makes it count."""
        earlier = RunFolder(start, self.recipe)
        if earlier.last_step() not in (ends := [self.recipe.start_of(n) for n in range(1, len(self.recipe.stages))]):
            raise RecipeError(
                f"{start}: found a run of {earlier.last_step()} steps; expected one that ended with a stage of this "
                f"recipe, after {' or '.join(map(str, ends))} steps. Finish it, or delete the folder."
            )
        for name in (STEPS, VALIDATIONS):
            if (start / name).exists():
                write_bytes_atomically(self.path / name, (start / name).read_bytes())
        for folder in ("pictures", "tensorboard"):
            if (start / folder).is_dir():
                shutil.copytree(start / folder, self.path / folder, dirs_exist_ok=True)
        checkpoint = earlier._checkpoints()[-1]
        write_bytes_atomically(self.path / "checkpoints" / checkpoint.name, checkpoint.read_bytes())

    @property
    def weights(self) -> Path:
        """The run's newest weights."""
        return self.path / "weights" / self._weights_name

    @property
    def best_weights(self) -> Path:
        """The weights that validated best; their folder is their own, since a folder of weights is an ensemble."""
        return self.path / "best" / self._weights_name

    @property
    def _weights_name(self) -> str:
        return f"{self.recipe.name}_seed{self.recipe.seed}.safetensors"

    def log(self, entry: Mapping[str, float]) -> None:
        """Append one training step to log.jsonl."""
        self._append(STEPS, entry)

    def log_validation(self, entry: Mapping[str, float]) -> None:
        """Append one validation to validation.jsonl."""
        self._append(VALIDATIONS, entry)

    def validations(self) -> list[dict[str, Any]]:
        """The numbers of all validations so far.

        Raises:
            TrainingLogError: a line is damaged.
        """
        return [line.numbers for line in read_log(self.path / VALIDATIONS)]

    def _append(self, name: str, entry: Mapping[str, float]) -> None:
        append_text(self.path / name, json.dumps(entry) + "\n")

    def _truncate(self, name: str, step: int) -> None:
        """Drop the lines after `step`, which an interrupted run wrote and the continued run will write again."""
        path = self.path / name
        if path.exists():
            kept = [line.text + b"\n" for line in read_log(path) if line.numbers["step"] <= step]
            write_bytes_atomically(path, b"".join(kept))

    def save(self, model: Model, stage_state: Mapping[str, Tensor], stage: int, step: int) -> None:
        """Write a checkpoint and the weights; of older checkpoints the recipe says how many are kept.

        Args:
            stage_state: what continuing the stage needs beside the model, see `Stepper.state`.

        Raises:
            CheckpointError: there is no room, or the folder cannot be written any more.
        """
        tensors = {f"network/{name}": tensor for name, tensor in model.network.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in model.average_state().items()}
        tensors |= {f"stage/{name}": tensor for name, tensor in stage_state.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path = self.path / "checkpoints" / f"step_{step:08d}.safetensors"
        metadata = {"stage": str(stage), "step": str(step)}
        try:
            write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
            self._save_weights(self.weights, model, step)
        except (OSError, SafetensorError) as error:
            older = [kept.name for kept in self._checkpoints()]
            raise CheckpointError(
                f"{path}: the checkpoint of step {step} could not be written ({error}); the run stopped and continues "
                f"from {older[-1] if older else 'its start'} with the same command once there is room."
            ) from error
        for old in self._checkpoints()[: -self.recipe.kept_checkpoints]:
            old.unlink()

    def save_best(self, model: Model, step: int) -> None:
        """Keep these weights as those that validated best."""
        self._save_weights(self.best_weights, model, step)

    def save_picture(self, name: str, content: bytes) -> None:
        """Write a PNG file into `pictures`."""
        write_bytes_atomically(self.path / "pictures" / f"{name}.png", content)

    def _save_weights(self, path: Path, model: Model, step: int) -> None:
        card = WeightsCard(
            network=self.recipe.network,
            recipe=self.recipe.model_dump(mode="json"),
            seed=self.recipe.seed,
            steps=step,
            provenance=self._provenance,
        )
        save_weights(path, model.result, card)

    @property
    def is_done(self) -> bool:
        """Whether the last step of the recipe is in a checkpoint and in the weights."""
        return self.weights.exists() and self.last_step() == self.recipe.n_steps

    def last_step(self) -> int:
        """The step of the newest checkpoint; 0 for a new run."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return 0
        with safe_open(checkpoints[-1], framework="pt") as file:
            return int(file.metadata()["step"])

    def restore_model(self, model: Model) -> None:
        """Load the network and its running mean from the newest checkpoint, if there is one."""
        if self._checkpoints():
            model.network.load_state_dict(self._tensors("network/"))
            model.load_average(self._tensors("average/"))

    def stage_state(self) -> dict[str, Tensor]:
        """The `stage_state` of the newest checkpoint."""
        return self._tensors("stage/")

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step_*.safetensors"))

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        with safe_open(self._checkpoints()[-1], framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  not a dict
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _git_commit() -> str:
    """The commit of the code; it is `unknown` where it does not run from a clone."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
