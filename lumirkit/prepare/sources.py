"""Which scans a user gives: what subjects there are, in which contrasts, and what belongs to each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.split import Part

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")


class Contrast(StrEnum):
    """The contrast of a scan; the order is that of the numbers in file names, 0000 for T1w."""

    T1W = "T1w"
    T2W = "T2w"
    FLAIR = "FLAIR"

    @property
    def number(self) -> int:
        """The number that stands for it in the challenge's file names."""
        return list(Contrast).index(self)


@dataclass(frozen=True)
class Scan:
    """One image of a head, and what a user gives with it; all lie in the world where their headers say."""

    contrast: Contrast
    image: Path
    mask: Path | None = None
    labels: Path | None = None
    landmarks: Path | None = None
    """A label map whose ids are the landmarks, or a file of points, as `lumirkit warp --points` reads them."""

    @property
    def files(self) -> dict[str, Path]:
        """Every file of the scan, by what it is."""
        given = {"image": self.image, "mask": self.mask, "labels": self.labels, "landmarks": self.landmarks}
        return {kind: path for kind, path in given.items() if path is not None}


@dataclass(frozen=True)
class Subject:
    """The scans of one visit of one person."""

    name: str
    scans: tuple[Scan, ...]
    part: Part | None = None
    """The use of the subject, where the user says it."""

    @property
    def reference(self) -> Scan:
        """The scan that is aligned to the template, and onto which the others are: the T1w, or else the first."""
        return min(self.scans, key=lambda scan: scan.contrast.number)

    def require_one_of_each(self) -> None:
        """Check that no contrast was scanned twice.

        Raises:
            VolumeError: one was; the message names the files.
        """
        for contrast in Contrast:
            found = [scan.image for scan in self.scans if scan.contrast is contrast]
            if len(found) > 1:
                raise VolumeError(
                    f"{self.name}: found {len(found)} {contrast} images ({', '.join(map(str, found))}); expected one. "
                    "Move the others away, or list the one that is meant in a CSV."
                )


@dataclass
class Found:
    """What a folder or a table holds."""

    subjects: list[Subject] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A sentence for each file that was not understood."""


def grouped(scans: Iterable[tuple[str, Scan]], part_of: Callable[[str], Part | None] = lambda _: None) -> list[Subject]:
    """Bring the scans of each subject together, subjects by name."""
    by_name: dict[str, list[Scan]] = {}
    for name, scan in scans:
        by_name.setdefault(name, []).append(scan)
    return [Subject(name, tuple(by_name[name]), part_of(name)) for name in sorted(by_name)]
