"""What is kept of every prepared subject: where its files came from, what was done, and what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from lumirkit.base.files import write_json_atomically
from lumirkit.data_manifests.split import Part
from lumirkit.prepare.quality import Quality
from lumirkit.prepare.sources import Contrast

FOLDER = "prepared"
"""The folder of the records within a dataset folder."""


class ScanRecord(BaseModel):
    """One image of the dataset."""

    image: str
    """The file, relative to the dataset folder."""
    contrast: Contrast
    source: str
    """The scan that it was made of."""
    brain: str
    """How the skull was stripped."""
    bias: str
    alignment: str
    transform: str
    """The affine as ITK has it: from the image to the scan."""
    label_ids: list[int] = []
    landmark_ids: list[int] = []
    quality: Quality

    @property
    def picture(self) -> str:
        """The picture to look at, relative to the dataset folder."""
        return f"{FOLDER}/{Path(self.image).name.removesuffix('.nii.gz')}.webp"


class SubjectRecord(BaseModel):
    """One subject of the dataset, the scan that the template was aligned to first."""

    key: str
    """The hash of all that the files were made of."""
    name: str
    number: int
    part: Part
    scans: list[ScanRecord]
    files: dict[str, str] = {}
    """Every file that was written, relative to the dataset folder, with the hash of its content."""
    seconds: float = 0

    def write(self, root: Path) -> None:
        """Write the record, when all files are there."""
        write_json_atomically(record_path(root, self.number), self.model_dump(mode="json"))

    def is_whole(self, root: Path) -> bool:
        """Whether every file is there as it was written."""
        return all(
            (root / file).is_file() and hash_of((root / file).read_bytes()) == found
            for file, found in self.files.items()
        )


def record_path(root: Path, number: int) -> Path:
    """Where the record of a subject lies."""
    return root / FOLDER / f"{number:04d}.json"


def read_record(root: Path, number: int) -> SubjectRecord | None:
    """The record of a subject; None where there is none that can be read."""
    try:
        return SubjectRecord.model_validate_json(record_path(root, number).read_bytes())
    except (OSError, ValidationError):
        return None


def read_records(root: Path) -> list[SubjectRecord]:
    """The records of all subjects, by their numbers."""
    numbers = sorted(int(path.stem) for path in (root / FOLDER).glob("*.json") if path.stem.isdecimal())
    return [record for number in numbers if (record := read_record(root, number)) is not None]


def remove_subject(root: Path, number: int) -> None:
    """Remove what an earlier run made of a subject: the record first, then its files."""
    record = read_record(root, number)
    record_path(root, number).unlink(missing_ok=True)
    for file in record.files if record else ():
        (root / file).unlink(missing_ok=True)


def hash_of(content: bytes) -> str:
    """The hash by which content is known again."""
    return hashlib.sha256(content).hexdigest()


def hash_of_path(path: Path) -> str:
    """The hash of a file, or of all files of a folder with their names.

    Raises:
        OSError: one cannot be read.
    """
    if not path.is_dir():
        return hash_of(path.read_bytes())
    files = sorted(each for each in path.iterdir() if each.is_file())
    return hash_of("".join(f"{each.name} {hash_of(each.read_bytes())}\n" for each in files).encode())
