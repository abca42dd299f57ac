"""`lumirkit prepare`: all subjects side by side, and the dataset folder of those that could be prepared."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel

from lumirkit.base.engine import Lost, Processes
from lumirkit.base.errors import RequestError
from lumirkit.base.failure import reason_of, traceback_of
from lumirkit.base.files import (
    remove_partial_files,
    require_writable,
    write_json_atomically,
    write_text_atomically,
)
from lumirkit.base.progress import Progress
from lumirkit.base.threads import share_of_threads
from lumirkit.data_manifests.split import Part
from lumirkit.data_manifests.writer import PairPaths, write_dataset_json, write_evaluation_config
from lumirkit.prepare.find_subjects import find_subjects
from lumirkit.prepare.frame import frame_of_template
from lumirkit.prepare.parts import ValidationRule
from lumirkit.prepare.quality_page import write_quality_page
from lumirkit.prepare.record import ScanRecord, SubjectRecord
from lumirkit.prepare.sources import Subject
from lumirkit.prepare.subject import Job, Settings, prepared
from lumirkit.registration.volume import read_image

STATUS_NAME, TABLE_NAME, PAGE_NAME = "prepare_status.json", "subjects.csv", "quality.html"
_JSON_NAME = "prepared_dataset.json"
_CONFIGS = ("LUMIR24_Segmentation", "MultiModal_Segmentation", "LUMIR24_Landmark")
_MOST_SUBJECTS = 10_000  # numbers have four digits


class State(StrEnum):
    """What became of a subject."""

    DONE = "done"
    KEPT = "kept"
    FAILED = "failed"


class SubjectStatus(BaseModel):
    """What the status file tells of a subject."""

    name: str
    number: int
    state: State
    seconds: float = 0
    reason: str = ""
    traceback: str = ""


class Status(BaseModel):
    """What the status file tells."""

    subjects: list[SubjectStatus] = []
    left_out: list[str] = []
    """A sentence for each file that belongs to no subject."""

    def in_state(self, state: State) -> list[SubjectStatus]:
        """The subjects in a state."""
        return [subject for subject in self.subjects if subject.state is state]


@dataclass(frozen=True)
class _Attempt:
    """The outcome of one job."""

    status: SubjectStatus
    record: SubjectRecord | None = None


def prepare_dataset(
    source: Path,
    settings: Settings,
    rule: ValidationRule,
    workers: int,
    say: Callable[[str], None],
    labels_suffix: str | None = None,
) -> Status:
    """Prepare the subjects of a folder, a BIDS tree or a table, and write the dataset folder.

    What an earlier run made of the same files is kept. A subject that fails costs no other.

    Args:
        rule: which subjects are for validation.
        workers: processes that work side by side.
        say: is told of files that were left out, and of subjects that failed.
        labels_suffix: see `read_folder`.

    Raises:
        RequestError, VolumeError: the request cannot be carried out; nothing was written.
    """
    root = settings.root
    engine = Processes(workers)
    if root.exists() and source.exists() and root.samefile(source):
        raise RequestError(f"{root}: found the scans in the place of the dataset; expected another folder for --out.")
    _require_own(root)
    frame = frame_of_template(read_image(settings.template))
    found = find_subjects(source, labels_suffix)
    numbers = _numbered(root, found.subjects)
    parts = rule.parts(found.subjects, numbers)
    require_writable(root)
    jobs = [Job(each, numbers[each.name], parts[each.name], settings) for each in found.subjects]
    for sentence in found.left_out:
        say(f"left out: {sentence}")
    _write_numbers(root, numbers)
    for folder in root.glob("*/"):
        remove_partial_files(folder)
    attempts = _attempts(jobs, engine, say)
    status = Status(subjects=[attempt.status for attempt in attempts], left_out=found.left_out)
    write_json_atomically(root / STATUS_NAME, status.model_dump(mode="json"))
    records = [attempt.record for attempt in attempts if attempt.record is not None]
    _write_lists(root, root.resolve().name, frame.shape, records)
    failed = [{"name": each.name, "reason": each.reason} for each in status.in_state(State.FAILED)]
    write_quality_page(root / PAGE_NAME, root, records, failed)
    return status


def _require_own(root: Path) -> None:
    """Check that a folder holds no dataset of somebody else, whose images would be overwritten.

    Raises:
        RequestError: it does.
    """
    theirs = next((path for folder in ("imagesTr", "imagesVal") for path in (root / folder).glob("*")), None)
    if theirs is not None and not (root / TABLE_NAME).is_file():
        raise RequestError(
            f"{root}: found {theirs.relative_to(root)}, that `prepare` did not make, as there is no {TABLE_NAME}; "
            "expected a new folder or one to go on with. Name another folder for --out."
        )


def _attempts(jobs: Sequence[Job], engine: Processes, say: Callable[[str], None]) -> list[_Attempt]:
    """Do the jobs; the outcomes are in the order of the jobs."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(share_of_threads(engine.count)))
    attempts: dict[int, _Attempt] = {}
    with Progress(len(jobs), "subjects") as progress:
        for position, outcome in engine.outcomes(_attempt, jobs):
            assert not isinstance(outcome, Lost)  # which clusters alone have
            attempts[position] = outcome
            if outcome.status.state is State.FAILED:
                say(f"failed: {outcome.status.name}: {outcome.status.reason}")
            progress.advance(outcome.status.name)
    return [attempts[position] for position in range(len(jobs))]


def _attempt(job: Job) -> _Attempt:
    """Prepare a subject; whatever goes wrong is its own affair."""
    name, number = job.subject.name, job.number
    try:
        record, is_kept = prepared(job)
    except Exception as error:
        work = ", ".join(str(scan.image) for scan in job.subject.scans)
        reason, trace = reason_of(error, work), traceback_of(error)
        return _Attempt(SubjectStatus(name=name, number=number, state=State.FAILED, reason=reason, traceback=trace))
    state = State.KEPT if is_kept else State.DONE
    return _Attempt(SubjectStatus(name=name, number=number, state=state, seconds=record.seconds), record)


def _numbered(root: Path, subjects: Sequence[Subject]) -> dict[str, int]:
    """The number of every subject: the one that an earlier run gave it, else the next that is free.

    Raises:
        RequestError: the table of an earlier run cannot be read, or there are too many subjects.
    """
    table = root / TABLE_NAME
    numbers: dict[str, int] = {}
    if table.is_file():
        try:
            rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
            numbers = {row["subject"]: int(row["number"]) for row in rows}
        except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
            raise RequestError(
                f"{table}: found no columns subject and number; expected them as `prepare` wrote them. Mend the table, "
                "or name another folder."
            ) from error
    free = iter(range(max(numbers.values(), default=-1) + 1, _MOST_SUBJECTS))
    for subject in subjects:
        if subject.name not in numbers:
            number = next(free, None)
            if number is None:
                raise RequestError(f"{root}: found more than {_MOST_SUBJECTS} subjects; expected at most so many.")
            numbers[subject.name] = number
    return numbers


def _write_numbers(root: Path, numbers: dict[str, int]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("subject", "number"))
    writer.writerows((name, numbers[name]) for name in sorted(numbers, key=numbers.__getitem__))
    write_text_atomically(root / TABLE_NAME, text.getvalue())


def _write_lists(root: Path, name: str, shape: tuple[int, int, int], records: Sequence[SubjectRecord]) -> None:
    """Write the dataset JSON, and what scores its pairs; what an earlier run listed gives way."""
    training = [scan.image for record in records if record.part is Part.TRAINING for scan in record.scans]
    paired = [record for record in records if record.part is Part.VALIDATION]
    same, other = _pairs(paired)
    files = [root / f"prepared_{config}_evaluation_config.json" for config in _CONFIGS]
    for file, pairs in zip(files, (same, other, same), strict=True):
        ids = [scan.landmark_ids if file == files[-1] else scan.label_ids for pair in pairs for scan in pair]
        common = sorted(set.intersection(*map(set, ids))) if ids else []
        if len(common) > 1:  # than the background
            labels = None if file == files[-1] else common
            write_evaluation_config(file, name, shape, [_paths(pair) for pair in pairs], labels)
        else:
            file.unlink(missing_ok=True)
    listed = [_paths(pair) for pair in (*same, *other)]
    if training or listed:
        write_dataset_json(root / _JSON_NAME, name, shape, training, listed)
    else:
        (root / _JSON_NAME).unlink(missing_ok=True)


_Pair = tuple[ScanRecord, ScanRecord]


def _pairs(records: Sequence[SubjectRecord]) -> tuple[list[_Pair], list[_Pair]]:
    """Pairs of one contrast and of two: each subject's first scan with those of the subject before it.

    In a pair of two contrasts the scan of the earlier subject is the fixed image. Turned round, a T2w on a T1w would
    have a field of the same name as the two T1w.
    """
    if len(records) < 2:
        return [], []
    before = zip(records, [records[-1], *records], strict=False)
    pairs = [(here.scans[0], there) for here, earlier in before for there in earlier.scans]
    same = [(here, there) for here, there in pairs if here.contrast is there.contrast]
    return same, [(there, here) for here, there in pairs if here.contrast is not there.contrast]


def _paths(pair: _Pair) -> PairPaths:
    return {"fixed": pair[0].image, "moving": pair[1].image}
