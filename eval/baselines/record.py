"""The record of method, version, settings and run time that is written beside every field of a reference method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lumirkit.eval.baselines.method import Baseline


def method_record(name: str, method: Baseline) -> dict[str, Any]:
    """What a field depends on beside its images: the method, its package and version, and all settings.

    Raises:
        RequestError: the package is not installed.
    """
    return {
        "method": name,
        "package": method.package,
        "version": method.package_version(),
        "settings": asdict(method),
    }


def record_path(field: Path) -> Path:
    """The path of a displacement field's record: `disp_3455_3454.json` beside `disp_3455_3454.nii.gz`."""
    return field.with_name(field.name.removesuffix(".nii.gz") + ".json")


def is_made(field: Path, made_of: Mapping[str, Any]) -> bool:
    """True where a field is there whose record says that it was made so."""
    try:
        found = json.loads(record_path(field).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found.pop("seconds", None)
    return field.is_file() and found == json.loads(json.dumps(made_of))
