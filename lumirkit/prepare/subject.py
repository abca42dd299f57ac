"""One subject from the scanner's files to images, label maps and landmarks in the frame of the dataset."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import installed_version
from lumirkit.base.files import write_bytes_atomically
from lumirkit.base.nifti import require_fetched
from lumirkit.data_manifests.split import Part
from lumirkit.eval.pictures import as_webp
from lumirkit.prepare.aligned_scan import AlignedScan, onto_reference, onto_template
from lumirkit.prepare.extraction import EXTRACTORS
from lumirkit.prepare.frame import Template, labels_in_frame, landmarks_in_frame, read_template
from lumirkit.prepare.quality import picture
from lumirkit.prepare.record import ScanRecord, SubjectRecord, hash_of, hash_of_path, read_record, remove_subject
from lumirkit.prepare.sources import Subject
from lumirkit.prepare.stripping import Stripping
from lumirkit.prepare.template_files import SHIPPED_TEMPLATE
from lumirkit.registration.any_pair.frame import BRIGHTEST
from lumirkit.registration.grid import Grid
from lumirkit.registration.itk_affine import write_itk_affine
from lumirkit.registration.volume import write_volume

# Belongs to the content of what is written: change it whenever the same scans give other files.
_VERSION = "2"
_FOLDERS = {Part.TRAINING: "Tr", Part.VALIDATION: "Val"}
_CARRIED = {"labels": labels_in_frame, "landmarks": landmarks_in_frame}
"""What is carried to the frame beside an image, by what it is."""


@dataclass(frozen=True)
class Settings:
    """What holds for all subjects of a dataset."""

    root: Path
    template: Path = SHIPPED_TEMPLATE
    stripping: Stripping = Stripping.AUTO


@dataclass(frozen=True)
class Job:
    """One subject, and what it becomes."""

    subject: Subject
    number: int
    part: Part
    settings: Settings


def prepared(job: Job) -> tuple[SubjectRecord, bool]:
    """Prepare a subject, unless the files that its scans give are there already.

    Returns:
        Its record, and whether it was kept from an earlier run.

    Raises:
        VolumeError, RequestError: a file cannot be used; of the subject nothing is left.
        OSError: a file cannot be written.
    """
    root = job.settings.root
    try:
        job.subject.require_one_of_each()
        key = _key(job)
        kept = read_record(root, job.number)
        if kept is not None and kept.key == key and kept.is_whole(root):
            return kept, True
        remove_subject(root, job.number)
        start = time.monotonic()
        scans, files = _written(job)
    except Exception:
        remove_subject(root, job.number)
        raise
    hashes = {file: hash_of((root / file).read_bytes()) for file in files}
    record = SubjectRecord(
        key=key,
        name=job.subject.name,
        number=job.number,
        part=job.part,
        scans=scans,
        files=hashes,
        seconds=round(time.monotonic() - start, 1),
    )
    record.write(root)
    return record, False


def _key(job: Job) -> str:
    """The hash of all that a subject's files depend on.

    Raises:
        VolumeError: a file of it is missing.
    """
    for scan in job.subject.scans:
        for path in scan.files.values():
            require_fetched(path)
    try:
        scans = [
            [scan.contrast, [[kind, path.name, hash_of_path(path)] for kind, path in scan.files.items()]]
            for scan in job.subject.scans
        ]
    except OSError as error:
        raise VolumeError(f"{error.filename}: cannot be read ({error.strerror}); expected a file. Check it.") from error
    depends_on = {
        "version": _VERSION,
        "scans": scans,
        "number": job.number,
        "part": job.part,
        "template": hash_of(job.settings.template.read_bytes()),
        "stripping": [
            job.settings.stripping,
            *(installed_version(each.distribution) or "none" for each in EXTRACTORS),
        ],
        "ants": installed_version("antspyx") or "none",
    }
    return hash_of(json.dumps(depends_on).encode())


def _written(job: Job) -> tuple[list[ScanRecord], list[str]]:
    """Do the work; returns what is told of every scan, and the files that were written."""
    template, stripping = read_template(job.settings.template), job.settings.stripping
    reference = onto_template(job.subject.reference, template.brain, stripping)
    others = [scan for scan in job.subject.scans if scan is not reference.scan]
    aligned = [reference, *(onto_reference(scan, reference, stripping) for scan in others)]
    written = [_write_scan(job, each, reference, template) for each in aligned]
    return [scan for scan, _ in written], [file for _, files in written for file in files]


def _write_scan(
    job: Job, aligned: AlignedScan, reference: AlignedScan, template: Template
) -> tuple[ScanRecord, list[str]]:
    """Write all that becomes of one scan; returns its record, and the files."""
    root, frame = job.settings.root, template.frame
    stem = f"LUMIRMRI_{job.number:04d}_{aligned.scan.contrast.number:04d}"
    framed = aligned.in_frame(frame, template.filled)
    record = ScanRecord(
        image=f"images{_FOLDERS[job.part]}/{stem}.nii.gz",
        contrast=aligned.scan.contrast,
        source=str(aligned.scan.image),
        brain=aligned.brain.how,
        bias=aligned.bias,
        alignment=aligned.alignment.how,
        transform=f"transforms/{stem}.txt",
        quality=framed.quality,
    )
    write_volume(root / record.image, framed.voxels, frame.affine)
    write_itk_affine(root / record.transform, aligned.alignment.matrix)
    pixels = picture(framed.head.data * np.float32(BRIGHTEST / framed.bright), framed.inside, template.filled)
    write_bytes_atomically(root / record.picture, as_webp(pixels))
    maps = _write_maps(job, stem, aligned, reference, frame)
    record.label_ids, record.landmark_ids = (maps[kind].ids if kind in maps else [] for kind in _CARRIED)
    return record, [record.image, record.transform, record.picture, *(each.file for each in maps.values())]


@dataclass(frozen=True)
class _WrittenMap:
    """A map on the frame: the file, relative to the dataset folder, and the ids that it holds."""

    file: str
    ids: list[int]


def _write_maps(
    job: Job, stem: str, aligned: AlignedScan, reference: AlignedScan, frame: Grid
) -> dict[str, _WrittenMap]:
    """Write the label map and the landmarks of a scan, or else those of the reference, where a user gave them."""
    written = {}
    for kind, carry in _CARRIED.items():
        owner = aligned if kind in aligned.scan.files else reference
        source = owner.scan.files.get(kind)
        if source is not None:
            file = f"{kind}{_FOLDERS[job.part]}/{stem}.nii.gz"
            found = carry(source, owner.alignment.matrix, frame)
            write_volume(job.settings.root / file, found, frame.affine)
            written[kind] = _WrittenMap(file, [int(number) for number in np.unique(found)])
    return written
