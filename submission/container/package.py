"""The zip to hand in: image archive, requirements as measured, and the validation fields; checked before it appears.

Beside it lies a file that says what is in the image.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from statistics import mean

import numpy as np
from docker import DockerClient
from isal import igzip

from lumirkit.base.errors import VolumeError
from lumirkit.base.files import require_writable_file, write_atomically, write_json_atomically
from lumirkit.data_manifests.dataset import read_dataset
from lumirkit.registration.volume import read_displacement
from lumirkit.submission.container.contents import contents_path, image_contents
from lumirkit.submission.container.engine import ContainerError, find_image, save_image
from lumirkit.submission.container.run import run_on_dataset
from lumirkit.submission.contract_name import ContractName
from lumirkit.submission.fields_zip import FOLDER, pack_fields
from lumirkit.submission.status import STATUS_NAME, RunStatus

_FIELDS, _README = f"{FOLDER}.zip", "README.txt"


def package_submission(
    client: DockerClient, image: str, dataset_json: Path, out: Path, gpus: str | None, memory_gb: float | None
) -> None:
    """Run an image on the validation pairs, and write the zip to hand in; it appears only once it passed its checks.

    Beside it is written what is in the image, see `image_contents`.

    Args:
        image: full tag, under which `docker load` will name the image again.

    Raises:
        RequestError: the zip's folder is not writable.
        ContainerError: the run fails or leaves a field out, the engine has no room for the image's archive, or the zip
            does not hold what it should.
    """
    require_writable_file(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    archive_name = f"{_plain_name(image)}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="lumirkit-package-", dir=out.parent) as folder:
        scratch = Path(folder)
        fields = scratch / "fields"
        status = run_on_dataset(client, image, dataset_json, fields, ContractName.LUMIR_2025, gpus, memory_gb)
        if status != 0:
            raise ContainerError(f"{image}: the run on {dataset_json} ended with status {status}; nothing is packed.")
        account = RunStatus.model_validate_json((fields / f"{STATUS_NAME}.json").read_bytes())
        labels = find_image(client, image).labels
        (scratch / _README).write_text(_readme(archive_name, account, labels, gpus, memory_gb), encoding="utf-8")
        pack_fields(fields, scratch / _FIELDS, dataset_json)
        _save_image(client, image, scratch / archive_name)
        parts = [scratch / archive_name, scratch / _README, scratch / _FIELDS]
        contents = image_contents(client, image)
        write_atomically(out, lambda temporary: _pack(parts, temporary, image, dataset_json))
        write_json_atomically(contents_path(out), contents)


def _pack(parts: list[Path], out: Path, image: str, dataset_json: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as package:  # what is in it is packed already
        for part in parts:
            package.write(part, part.name)
    check_package(out, image, dataset_json)


def _plain_name(image: str) -> str:
    """Make a file's name of an image's tag: without registry, `:latest` and colon."""
    return image.rsplit("/", 1)[-1].removesuffix(":latest").replace(":", "_")


def _save_image(client: DockerClient, image: str, archive: Path) -> None:
    with igzip.open(archive, "wb", compresslevel=1) as packed:
        for chunk in save_image(client, image):
            packed.write(chunk)


def _readme(
    archive_name: str, account: RunStatus, labels: dict[str, str], gpus: str | None, memory_gb: float | None
) -> str:
    pairs = [pair for pair in account.pairs if pair.seconds]
    devices = sorted({pair.device for pair in pairs})
    on_gpu = max((pair.peak_memory_gb for pair in pairs if pair.device.startswith("cuda")), default=0.0)
    lines = {
        "Image": f"{archive_name} (docker load < {archive_name})",
        "Version": labels.get("org.opencontainers.image.version", "unknown"),
        "Commit": labels.get("org.opencontainers.image.revision", "unknown"),
        "Weights": f"{account.members} model{'s' * (account.members > 1)}, sha256 {account.weights_sha256}",
        "CPUs": f"{os.cpu_count()} were there, {account.threads} threads were used",
        "RAM": f"{account.peak_process_memory_gb:.1f} GB at most"
        + (f", under a limit of {memory_gb:g} GB" if memory_gb else ""),
        "GPU memory": f"{on_gpu:.1f} GB at most" if on_gpu else "no GPU was used; one is taken where it is offered",
        "Time per pair": f"{mean(pair.seconds for pair in pairs):.1f} s on average, "
        f"{max(pair.seconds for pair in pairs):.1f} s at most, on {', '.join(devices)}" + (f" {gpus}" if gpus else ""),
        "Pairs measured": str(len(pairs)),
        "Run with": "docker run --rm --ipc=host --network=none --user $(id -u):$(id -g) [--gpus device=0] "
        "-v <images>:/app/input -v <json>:/app/LUMIR25_dataset.json -v <out>:/app/output <image>",
        "Also": "the mounts of LUMIR 2024, one pair by five paths, any dataset JSON: <image> --help",
    }
    width = max(map(len, lines))
    return "".join(f"{name + ':':<{width + 2}}{text}\n" for name, text in lines.items())


def check_package(package: Path, image: str, dataset_json: Path) -> None:
    """Open a submission's zip again and look whether everything is there and whole.

    Raises:
        ContainerError: something is missing or damaged; says what.
    """
    archive_name = f"{_plain_name(image)}.tar.gz"
    with zipfile.ZipFile(package) as opened:
        damaged = opened.testzip()
        if damaged:
            raise ContainerError(f"{package}: {damaged} in it is damaged.")
        expected = {archive_name, _README, _FIELDS}
        if set(opened.namelist()) != expected:
            raise ContainerError(f"{package}: holds {opened.namelist()}; expected {sorted(expected)}.")
        with opened.open(archive_name) as packed, igzip.open(packed) as archive:
            _check_archive(archive, image)
        with opened.open(_FIELDS) as packed, zipfile.ZipFile(packed) as fields, tempfile.TemporaryDirectory() as folder:
            _check_fields(fields, dataset_json, Path(folder))


def _check_archive(archive: igzip.IGzipFile, image: str) -> None:
    tags = None
    with tarfile.open(fileobj=archive, mode="r|") as files:
        for file in files:
            content = files.extractfile(file) if file.name == "manifest.json" else None
            if content is not None:
                tags = json.load(content)[0]["RepoTags"]
    if not tags or image not in tags:
        raise ContainerError(f"the image archive names {tags}; expected {image}.")


def _check_fields(fields: zipfile.ZipFile, dataset_json: Path, scratch: Path) -> None:
    dataset = read_dataset(dataset_json)
    expected = sorted(f"{FOLDER}/{pair.field_name}" for pair in dataset.validation)
    if sorted(fields.namelist()) != expected:
        raise ContainerError(f"{_FIELDS} holds {sorted(fields.namelist())}; expected {expected}.")
    for name in expected:
        try:
            found = read_displacement(Path(fields.extract(name, scratch)), dataset.image_shape)
        except VolumeError as error:
            raise ContainerError(f"{_FIELDS}: {error}") from error
        if found.dtype != np.float32:
            raise ContainerError(f"{_FIELDS}: {name} is {found.dtype}; expected float32.")
