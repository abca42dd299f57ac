"""The examination of a container: every contract, hostile conditions, and whether its fields are right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from docker import DockerClient

from lumirkit.base.errors import VolumeError
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.dataset import Pair
from lumirkit.registration.volume import read_affine, read_displacement, read_header, read_image
from lumirkit.submission.container.engine import (
    GIGABYTE,
    Conditions,
    ContainerError,
    Finished,
    Mount,
    finish,
    run,
    started,
)
from lumirkit.submission.container.exam_data import AFFINE, ExamData
from lumirkit.submission.container.motion import rotation_found, translation_found
from lumirkit.submission.container.run import mounts_of
from lumirkit.submission.contract_name import ContractName
from lumirkit.submission.status import STATUS_NAME, PairState, RunStatus

_FOREIGN_USER = "12345:54321"  # has neither name nor home in any image
_TINY_SHM = 64 * 1024
_THREADS_TOLERANCE_VOX = 1e-4
_TERMINATED = 128 + 15

LUMIR_2025 = Conditions(user=_FOREIGN_USER, host_ipc=True)
LUMIR_2024 = Conditions(host_ipc=True, memory_bytes=16 * GIGABYTE)
HOSTILE = Conditions(user=_FOREIGN_USER, read_only=True, no_privileges=True, shm_bytes=_TINY_SHM)


@dataclass(frozen=True)
class Check:
    """One line of the pass table."""

    name: str
    passed: bool
    found: str = ""


class _FailedCheckError(Exception):
    """A check found something else than it expects."""


class Exam:
    """Runs one image under every condition; the fields of the first run are what all others must repeat."""

    def __init__(self, client: DockerClient, image: str, data: ExamData, scratch: Path) -> None:
        """Prepare the examination; `scratch` is an empty folder for the outputs."""
        self._client, self._image, self._data, self._scratch = client, image, data, scratch
        self._first = scratch / "LUMIR 2025"
        self._brain = read_image(data.root / data.translation.fixed).data > 0

    def take(self, first: int | None = None) -> list[Check]:
        """Run all checks, or the first few; one that fails does not keep the others from being made."""
        checks: list[tuple[str, Callable[[], str]]] = [
            ("LUMIR 2025 contract, foreign user, no network", self._lumir_2025),
            ("names of the fields", self._names),
            ("shape, type and header", self._headers),
            ("direction: a known translation", self._translation),
            ("direction: a known rotation", self._rotation),
            ("no GPU: says so, goes on", self._no_gpu),
            ("LUMIR 2024 contract, 16 GB", self._lumir_2024),
            ("contract forced by an option", self._forced),
            ("any dataset JSON", self._any_dataset),
            ("one pair by five paths", self._five_paths),
            ("a second run, byte for byte", lambda: self._repeats("second run", LUMIR_2025)),
            ("read-only root", lambda: self._repeats("read-only", replace(LUMIR_2025, read_only=True))),
            ("no capabilities, no new privileges", lambda: self._repeats("dropped", Conditions(no_privileges=True))),
            ("64 KB of shared memory", lambda: self._repeats("shm", Conditions(shm_bytes=_TINY_SHM))),
            ("all of these at once", lambda: self._repeats("hostile", HOSTILE)),
            ("one thread, float32: within 1e-4 voxel", self._one_thread),
            ("SIGTERM, then a restart", self._terminated),
            ("a restart keeps what is there", self._restarted),
            ("a damaged image costs its own pair", self._damaged),
            ("a zero field in its stead, labelled", self._zero_field),
            ("no mounts: a message, status 2", self._no_mounts),
        ]
        checks = checks[:first]
        results = []
        with Progress(len(checks), "checks") as progress:
            for name, check in checks:
                try:
                    results.append(Check(name, True, check()))
                except (_FailedCheckError, ContainerError, VolumeError, OSError, ValueError) as error:
                    results.append(Check(name, False, str(error)))
                progress.advance(name)
        return results

    # --- contracts

    def _lumir_2025(self) -> str:
        start = time.perf_counter()
        _require_status(run(self._client, self._image, (), self._mounts_2025(self._first), LUMIR_2025), 0)
        return f"{time.perf_counter() - start:.0f} s for {len(self._data.pairs)} pairs"

    def _mounts_2025(self, out: Path, data: ExamData | None = None) -> list[Mount]:
        return mounts_of(ContractName.LUMIR_2025, (data or self._data).dataset_json, _open_folder(out))

    def _mounts_2024(self, out: Path) -> list[Mount]:
        return mounts_of(ContractName.LUMIR_2024, self._data.dataset_json, _open_folder(out))

    def _lumir_2024(self) -> str:
        out = self._scratch / "LUMIR 2024"
        _require_status(run(self._client, self._image, (), self._mounts_2024(out), LUMIR_2024), 0)
        return self._same_as_first(out)

    def _forced(self) -> str:
        """Mount the files of both years, and let the option decide."""
        out = self._scratch / "forced"
        mounts = [*self._mounts_2025(self._scratch / "not asked for"), *self._mounts_2024(out)]
        _require_status(run(self._client, self._image, ("--contract", "lumir2024"), mounts), 0)
        return self._same_as_first(out)

    def _any_dataset(self) -> str:
        out = self._scratch / "any dataset"
        mounts = [Mount(self._data.root, "/some/data"), Mount(_open_folder(out), "/some/fields", writable=True)]
        paths = ("--dataset-json", f"/some/data/{self._data.dataset_json.name}", "--output", "/some/fields")
        _require_status(run(self._client, self._image, paths, mounts), 0)
        return self._same_as_first(out)

    def _five_paths(self) -> str:
        out = self._scratch / "one pair"
        mounts = [Mount(self._data.root, "/data"), Mount(_open_folder(out), "/out", writable=True)]
        images = [self._data.translation.fixed, self._data.translation.moving]
        masks = [Path("masks") / image.name for image in images]
        paths = [*(f"/data/{path}" for path in (*images, *masks)), "/out/field.nii.gz"]
        _require_status(run(self._client, self._image, paths, mounts, HOSTILE), 0)
        difference = np.abs(self._field(out / "field.nii.gz") - self._field_of(self._data.translation)).max()
        _require(difference == 0, f"differs from the field of the dataset run by {difference:.3g} voxels")
        return "equals the field of the dataset run"

    # --- the fields

    def _field(self, path: Path) -> np.ndarray:
        return read_displacement(path, self._data.shape)

    def _field_of(self, pair: Pair) -> np.ndarray:
        return self._field(self._first / pair.field_name)

    def _names(self) -> str:
        found = sorted(path.name for path in self._first.glob("*.nii.gz"))
        _require(found == self._data.field_names, f"found {found}; expected {self._data.field_names}")
        return ", ".join(name.removesuffix(".nii.gz") for name in found)

    def _headers(self) -> str:
        expected = (*self._data.shape, 3)
        for pair in self._data.pairs:
            path = self._first / pair.field_name
            header = read_header(path)
            _require(header.shape == expected, f"{path.name}: shape {header.shape}; expected {expected}")
            _require(header.dtype == np.float32, f"{path.name}: type {header.dtype}; expected float32")
            _require(np.array_equal(read_affine(path), AFFINE), f"{path.name}: the affine is not the fixed image's")
            self._field(path)
        return f"{expected}, float32, affine of the fixed image"

    def _translation(self) -> str:
        right, found = translation_found(self._field_of(self._data.translation), self._brain)
        _require(right, found)
        return found

    def _rotation(self) -> str:
        right, found = rotation_found(self._field_of(self._data.rotation), self._brain)
        _require(right, found)
        return found

    # --- conditions

    def _no_gpu(self) -> str:
        out = self._scratch / "no gpu"
        ended = run(self._client, self._image, ("--shard", "1/4"), self._mounts_2025(out), LUMIR_2025)
        _require_status(ended, 0)
        said = next((line for line in ended.printed.splitlines() if "no GPU" in line), "")
        _require(bool(said), "nothing printed about the missing GPU")
        return said

    def _repeats(self, name: str, conditions: Conditions) -> str:
        out = self._scratch / name
        _require_status(run(self._client, self._image, (), self._mounts_2025(out), conditions), 0)
        return self._same_as_first(out)

    def _same_as_first(self, out: Path) -> str:
        """Require that a run's fields are, byte for byte, those of the first run, and that nothing else was left."""
        for name in self._data.field_names:
            _require((out / name).is_file(), f"{name} is missing")
            _require((out / name).read_bytes() == (self._first / name).read_bytes(), f"{name}: other bytes")
        left = sorted(path.name for path in out.glob(".*"))
        _require(not left, f"left behind: {left}")
        return "the same bytes"

    def _one_thread(self) -> str:
        """Compare in float32: where sums of another order round a bfloat16 otherwise, fields differ by 0.002 voxel."""
        one = Conditions(environment={"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})
        threads = {"all threads": LUMIR_2025, "one thread": one}
        outs = [self._scratch / name for name in threads]
        for out, conditions in zip(outs, threads.values(), strict=True):
            float32 = ("--convolutions", "float32")
            _require_status(run(self._client, self._image, float32, self._mounts_2025(out), conditions), 0)
        largest = max(
            float(np.abs(np.subtract(*(self._field(out / pair.field_name) for out in outs))).max())
            for pair in self._data.pairs
        )
        _require(largest <= _THREADS_TOLERANCE_VOX, f"{largest:.2g} voxels apart")
        return f"{largest:.2g} voxels apart"

    def _terminated(self) -> str:
        """Send a signal once the first field is there; then only whole fields remain, and a restart makes the rest."""
        out = self._scratch / "terminated"
        mounts = self._mounts_2025(out)
        with started(self._client, self._image, (), mounts, LUMIR_2025) as container:
            _wait_for_field(out)
            sent = time.perf_counter()
            container.kill("SIGTERM")
            ended = finish(container)
            seconds = time.perf_counter() - sent
        _require_status(ended, _TERMINATED)
        fields = sorted(path.name for path in out.glob("*.nii.gz"))
        _require(0 < len(fields) < len(self._data.pairs), f"{len(fields)} fields there when it ended")
        for name in fields:
            _require((out / name).read_bytes() == (self._first / name).read_bytes(), f"{name}: other bytes")
        _require(not list(out.glob(".*")), "a partial file was left")
        _require_status(run(self._client, self._image, (), mounts, LUMIR_2025), 0)
        self._same_as_first(out)
        return f"ended after {seconds:.1f} s with {len(fields)} whole fields; the restart made the rest"

    def _restarted(self) -> str:
        before = {name: (self._first / name).stat().st_mtime_ns for name in self._data.field_names}
        _require_status(run(self._client, self._image, (), self._mounts_2025(self._first), LUMIR_2025), 0)
        after = {name: (self._first / name).stat().st_mtime_ns for name in self._data.field_names}
        _require(before == after, "fields were written again")
        return "no field was written again"

    # --- bad input

    def _damaged_data(self) -> ExamData:
        root = self._scratch / "damaged data"
        if not root.exists():
            shutil.copytree(self._data.root, root)
            image = root / self._data.translation.moving
            image.write_bytes(image.read_bytes()[:1000])
        return replace(self._data, root=root)

    def _damaged(self) -> str:
        out = self._scratch / "damaged"
        ended = run(self._client, self._image, (), self._mounts_2025(out, self._damaged_data()), LUMIR_2025)
        _require_status(ended, 1)
        expected = [name for name in self._data.field_names if name != self._data.translation.field_name]
        found = sorted(path.name for path in out.glob("*.nii.gz"))
        _require(found == expected, f"found {found}; expected {expected}")
        name = self._data.translation.moving.name
        said = next((line for line in ended.printed.splitlines() if line.startswith("failed") and name in line), "")
        _require(bool(said), f"the damaged {name} is not named")
        return said

    def _zero_field(self) -> str:
        out = self._scratch / "zero field"
        mounts = self._mounts_2025(out, self._damaged_data())
        _require_status(run(self._client, self._image, ("--on-error", "zero"), mounts, LUMIR_2025), 1)
        field = out / self._data.translation.field_name
        _require(not self._field(field).any(), f"{field.name} is not zero")
        account = RunStatus.model_validate_json((out / f"{STATUS_NAME}.json").read_bytes())
        states = {pair.field: pair.state for pair in account.pairs}
        _require(states[field.name] is PairState.ZERO, f"the status calls {field.name} {states[field.name]}")
        return f"{field.name} is zero, and the status says so"

    def _no_mounts(self) -> str:
        ended = run(self._client, self._image, (), (), LUMIR_2025)
        _require_status(ended, 2)
        return ended.printed.strip().splitlines()[-1]


def _open_folder(folder: Path) -> Path:
    """Make a folder that every user may write into."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


def _wait_for_field(out: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not list(out.glob("*.nii.gz")):
        _require(time.monotonic() < deadline, f"no field within {seconds:.0f} s")
        time.sleep(0.02)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _FailedCheckError(otherwise)


def _require_status(ended: Finished, expected: int) -> None:
    last = " / ".join(ended.printed.strip().splitlines()[-3:])
    _require(ended.status == expected, f"ended with status {ended.status}; expected {expected}: {last}")


def all_passed(checks: Sequence[Check]) -> bool:
    """Whether an image may be handed in."""
    return all(check.passed for check in checks)
