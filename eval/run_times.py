"""Run times of the registration of each pair, as the folder of the fields tells them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from lumirkit.data_manifests.dataset import read_json_model
from lumirkit.eval.baselines.record import record_path

_ACCOUNTS = "lumirkit_status*.json"
_MADE = ("written", "kept")  # others stand for a failure

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Pair(BaseModel):
    field: str
    state: str
    seconds: Seconds


class _Account(BaseModel):
    """The part that is needed of the JSON that `lumirkit predict` and the container write, one a shard."""

    updated: str
    pairs: list[_Pair]
    earlier: list[_Pair] = []


class _Record(BaseModel):
    """The part that is needed of the JSON that `lumirkit baseline` writes beside a field."""

    seconds: Seconds


def account_files(folder: Path) -> list[Path]:
    """The files in a folder of fields by which `lumirkit predict` and the container tell of their runs."""
    return sorted(folder.glob(_ACCOUNTS))


def read_run_times(folder: Path, fields: Iterable[str]) -> dict[str, float]:
    """Seconds by the name of the field, for those of `fields` whose time is known.

    A record beside a field goes before the account of a run, and of several accounts the newest.

    Raises:
        ManifestError: a file with times cannot be used; move it away to score without them.
    """
    accounts = [read_json_model(path, _Account) for path in account_files(folder)]
    in_order = sorted(accounts, key=lambda run: run.updated)
    pairs = [pair for run in in_order for pair in run.earlier] + [pair for run in in_order for pair in run.pairs]
    run_seconds = {pair.field: pair.seconds for pair in pairs if pair.state in _MADE and pair.seconds}
    times = {}
    for field in fields:
        record = record_path(folder / field)
        if record.is_file():
            times[field] = read_json_model(record, _Record).seconds
        elif field in run_seconds:
            times[field] = run_seconds[field]
    return times
