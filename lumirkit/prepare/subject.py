"""One subject from the scanner's files to images, label maps and landmarks in the frame of the dataset."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from scipy.ndimage import affine_transform

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import installed_version
from lumirkit.base.files import write_bytes_atomically
from lumirkit.data_manifests.split import Part
from lumirkit.eval.pictures import as_webp
from lumirkit.prepare.alignment import Alignment, aligned, aligned_brain, in_place
from lumirkit.prepare.bias import without_bias
from lumirkit.prepare.frame import (
    as_bytes,
    brightest,
    frame_of_template,
    inside_in_frame,
    labels_in_frame,
    landmarks_in_frame,
)
from lumirkit.prepare.quality import measured, picture
from lumirkit.prepare.read_head import read_head
from lumirkit.prepare.record import ScanRecord, SubjectRecord, hash_of, read_record, remove_subject
from lumirkit.prepare.sources import Scan, Subject
from lumirkit.prepare.stripping import Brain, Stripping, found_brain, own_brain, require_brain_volume
from lumirkit.prepare.template_files import SHIPPED_TEMPLATE
from lumirkit.registration.any_pair.frame import BRIGHTEST, resampled
from lumirkit.registration.grid import Grid
from lumirkit.registration.itk_affine import write_itk_affine
from lumirkit.registration.volume import Volume, read_image, write_volume

# Belongs to the content of what is written: change it whenever the same scans give other files.
_VERSION = "2"
_FOLDERS = {Part.TRAINING: "Tr", Part.VALIDATION: "Val"}


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


@dataclass(frozen=True, eq=False)
class _Placed:
    """A scan without bias, its brain, and where the frame lies in it."""

    scan: Scan
    head: Volume
    brain: Brain
    bias: str
    alignment: Alignment

    @property
    def stripped(self) -> Volume:
        return _within(self.head, self.brain.inside)


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
    try:
        scans = [
            [scan.contrast, [[kind, path.name, hash_of(path.read_bytes())] for kind, path in scan.files.items()]]
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
        "stripping": [job.settings.stripping, installed_version("deepbet") or "none"],
        "ants": installed_version("antspyx") or "none",
    }
    return hash_of(json.dumps(depends_on).encode())


def _written(job: Job) -> tuple[list[ScanRecord], list[str]]:
    """Do the work; returns what is told of every scan, and the files that were written."""
    template = read_image(job.settings.template)
    frame = frame_of_template(template)
    filled = inside_in_frame(template.data > 0, template, frame)
    reference = _reference(job, template)
    others = [scan for scan in job.subject.scans if scan is not reference.scan]
    placed = [reference, *(_onto_reference(scan, reference, job.settings.stripping) for scan in others)]
    scans: list[ScanRecord] = []
    files: list[str] = []
    for each in placed:
        scans.append(_write_scan(job, each, reference, frame, filled, files))
    return scans, files


def _reference(job: Job, template: Volume) -> _Placed:
    """Strip the scan that is aligned to the template, take out its bias, and align it."""
    scan = job.subject.reference
    head = read_head(scan.image)
    brain = own_brain(head, scan, job.settings.stripping) or found_brain(head, scan)
    require_brain_volume(brain, head, template)
    head, bias = without_bias(head, brain.inside)
    alignment = aligned_brain(template, _within(head, brain.inside))
    return _Placed(scan, head, brain, bias, alignment)


def _onto_reference(scan: Scan, reference: _Placed, stripping: Stripping) -> _Placed:
    """Align another scan of the subject rigidly, brain to brain, or head to head where it has no mask of its own."""
    head = read_head(scan.image)
    brain = own_brain(head, scan, stripping)
    if brain is not None:
        rigid = aligned(reference.stripped, _within(head, brain.inside), rigid=True)
    elif reference.brain.is_stripped:
        raise VolumeError(
            f"{scan.image}: found a whole head beside {reference.scan.image.name}, which is stripped; expected both as "
            "heads or both as brains. Give a brain mask of this scan."
        )
    else:
        rigid = aligned(reference.head, head, rigid=True)
        brain = Brain(_carried(reference, head, rigid), f"mask of {reference.scan.image.name}")
    head, bias = without_bias(head, brain.inside)
    how = f"{rigid.how} onto {reference.scan.image.name}, {reference.alignment.how} to the template"
    return _Placed(scan, head, brain, bias, Alignment(rigid.matrix @ reference.alignment.matrix, how))


def _carried(reference: _Placed, head: Volume, rigid: Alignment) -> Bool[ndarray, "x y z"]:
    """The brain of the reference as voxels of another scan.

    Raises:
        VolumeError: nothing of it lies there.
    """
    matrix = np.linalg.inv(rigid.matrix @ reference.head.affine) @ head.affine
    values = reference.brain.inside.astype(np.uint8)
    inside = affine_transform(values, matrix, output_shape=head.shape, order=0, mode="grid-constant") > 0
    if not inside.any():
        raise VolumeError(f"{head.name}: shows nothing of the brain of {reference.scan.image}. Look at both images.")
    return inside


def _write_scan(
    job: Job,
    placed: _Placed,
    reference: _Placed,
    frame: Grid,
    template: Bool[ndarray, "x y z"],
    files: list[str],
) -> ScanRecord:
    """Write all that becomes of one scan; `files` gets the names."""
    root, folder = job.settings.root, _FOLDERS[job.part]
    stem = f"LUMIRMRI_{job.number:04d}_{placed.scan.contrast.number:04d}"
    there = in_place(placed.head, placed.alignment)
    inside = inside_in_frame(placed.brain.inside, there, frame)
    head = resampled(there, frame)
    white = brightest(head, inside)
    voxels = as_bytes(head, inside, white)
    scanned = np.count_nonzero(placed.brain.inside)
    record = ScanRecord(
        image=f"images{folder}/{stem}.nii.gz",
        contrast=placed.scan.contrast,
        source=str(placed.scan.image),
        brain=placed.brain.how,
        bias=placed.bias,
        alignment=placed.alignment.how,
        transform=f"transforms/{stem}.txt",
        quality=measured(
            voxels, template, *(scanned * abs(np.linalg.det(image.affine[:3, :3])) for image in (placed.head, there))
        ),
    )
    files += [record.image, record.transform, record.picture]
    write_volume(root / record.image, voxels, frame.affine)
    write_itk_affine(root / record.transform, placed.alignment.matrix)
    pixels = picture(head.data * np.float32(BRIGHTEST / white), inside, template)
    write_bytes_atomically(root / record.picture, as_webp(pixels))
    for kind, owner, carry, ids in (
        ("labels", placed if placed.scan.labels else reference, labels_in_frame, record.label_ids),
        ("landmarks", placed if placed.scan.landmarks else reference, landmarks_in_frame, record.landmark_ids),
    ):
        source = getattr(owner.scan, kind)
        if source is not None:
            found = carry(source, owner.alignment.matrix, frame)
            files.append(f"{kind}{folder}/{stem}.nii.gz")
            write_volume(root / files[-1], found, frame.affine)
            ids += [int(number) for number in np.unique(found)]
    return record


def _within(head: Volume, inside: Bool[ndarray, "x y z"]) -> Volume:
    return replace(head, data=np.where(inside, head.data, np.float32(0)))
