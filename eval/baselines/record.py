"""The record of method, version, settings and run time that is written beside every field of a reference method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
