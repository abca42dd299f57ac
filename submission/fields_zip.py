"""The zip of the validation fields, as the challenge takes it: one folder with the field of every pair."""

from __future__ import annotations

import zipfile
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.base.files import write_atomically
from lumirkit.data_manifests.dataset import read_dataset
from lumirkit.registration.volume import read_displacement

FOLDER = "validation_predictions"
"""The folder in the zip."""


def pack_fields(fields: Path, out: Path, dataset_json: Path) -> None:
    """Write the zip of all validation fields of a dataset; each is read first, and the zip appears whole or not at all.

    Raises:
        RequestError: a field is missing.
        VolumeError: a field cannot be read, or does not fit the dataset.
    """
    dataset = read_dataset(dataset_json)
    names = [pair.field_name for pair in dataset.validation]
    missing = [name for name in names if not (fields / name).is_file()]
    if missing:
        raise RequestError(
            f"{out}: not written, as {fields} lacks {len(missing)} of {len(names)} fields, such as {missing[0]}. "
            "Register these pairs first; with --shard, pack after the last one."
        )
    for name in names:
        read_displacement(fields / name, dataset.image_shape)
    write_atomically(out, lambda temporary: _write(fields, names, temporary))


def _write(fields: Path, names: list[str], out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:  # the fields are compressed already
        for name in names:
            packed.write(fields / name, f"{FOLDER}/{name}")
