"""What a field says of its making, so that a restart makes only the fields that it has to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lumirkit.base.errors import VolumeError
from lumirkit.registration.precision import Precision
from lumirkit.registration.predictor import Method
from lumirkit.registration.volume import read_description, read_displacement

_HASH_DIGITS = 40  # the header's description has room for 79 characters in all

ZERO_FIELD = "lumirkit zero field: this pair could not be registered"


@dataclass(frozen=True)
class Maker:
    """The program, the method and the number format that make fields."""

    method: Method
    precision: Precision

    def stamp(self, images: Iterable[bytes]) -> str:
        """Make the description that a field gets which these make of the contents of image files."""
        digest = hashlib.sha256(f"{self.method.weights_sha256} {self.precision}".encode())
        if self.method.refinement is not None:
            digest.update(self.method.refinement.model_dump_json().encode())
        for content in images:
            digest.update(hashlib.sha256(content).digest())
        return f"lumirkit {version('lumirkit')} {digest.hexdigest()[:_HASH_DIGITS]}"


def is_made(field: Path, stamp: str, shape: tuple[int, int, int]) -> bool:
    """Whether a field is there, was made as the stamp says, and is whole."""
    if not field.is_file():
        return False
    try:
        if read_description(field) != stamp:
            return False
        read_displacement(field, shape)
    except VolumeError:
        return False
    return True
