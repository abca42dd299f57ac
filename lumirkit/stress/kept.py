"""Results kept by the content of what they are made of, so that nothing is registered twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, FiniteFloat, ValidationError

from lumirkit.base.files import write_json_atomically
from lumirkit.eval.cache import SCORING_VERSION
from lumirkit.eval.stress.scan import Scan
from lumirkit.stress.methods import StressedMethod
from lumirkit.stress.pairs import LabelledPair

_LOST_LABELS = "lost labels count 0"  # how the Dice here differs from that of `evaluate`


class Outcome(BaseModel):
    """What one registration gave."""

    dice_percent: FiniteFloat
    ndv_percent: FiniteFloat
    seconds: FiniteFloat


def hash_of(pair: LabelledPair, fixed: Scan, moving: Scan) -> str:
    """The hash of all that is registered and scored.

    Args:
        pair: the pair as its files have it.
        fixed: its fixed scan as it is registered.
        moving: its moving scan as it is registered.
    """
    digest = hashlib.sha256(pair.metrics.encode())
    for scan in (pair.fixed, fixed, moving):
        for array in (scan.image.data, scan.image.affine, scan.labels):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class KeptOutcomes:
    """A folder of outcomes, each in a file whose name is the hash of method, images, labels and scoring.

    So a changed method or disturbance finds none, and one that leaves a scan as it is finds that of the scan itself.
    """

    folder: Path

    def path(self, method: StressedMethod, content: str) -> Path:
        """The file of an outcome.

        Args:
            content: see `hash_of`.
        """
        digest = hashlib.sha256(f"{SCORING_VERSION} {_LOST_LABELS} {method.made_of} {content}".encode())
        return self.folder / f"{digest.hexdigest()}.json"

    @staticmethod
    def find(path: Path) -> Outcome | None:
        """Read an outcome; None where there is none, or a damaged one."""
        try:
            return Outcome.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    @staticmethod
    def keep(path: Path, outcome: Outcome) -> None:
        """Write an outcome.

        Raises:
            OSError: it cannot be written.
        """
        try:
            write_json_atomically(path, outcome.model_dump())
        except OSError as error:
            raise OSError(
                f"{path.parent}: a result could not be kept ({error.strerror}). Make room; the same command goes on."
            ) from error
