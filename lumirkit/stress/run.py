"""`lumirkit stress`: pairs registered again under disturbances, by several methods, doing what is not done yet."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lumirkit.base.failure import reason_of
from lumirkit.base.files import remove_partial_files, require_writable, write_text_atomically
from lumirkit.base.outputs import require_apart, require_folder_apart
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.evaluation_config import files_of
from lumirkit.eval.cases import Case
from lumirkit.eval.report.stress import StressPictures, write_stress_report
from lumirkit.eval.stress.chosen import Tried
from lumirkit.eval.stress.disturbance import Disturbance
from lumirkit.eval.stress.scan import Scan
from lumirkit.eval.stress.table import UNDISTURBED, Measured, TextTable, mean_rows, pair_rows, text_tables
from lumirkit.stress.kept import KeptOutcomes, Outcome, hash_of
from lumirkit.stress.methods import StressedMethod
from lumirkit.stress.pairs import LabelledPair

_FILES = ("pairs.csv", "stress.csv", "stress.md", "stress.html")
_KEPT = "kept"


@dataclass(frozen=True)
class _Setting:
    """A disturbance at a strength, or none."""

    disturbance: Disturbance | None
    strength: float

    @property
    def name(self) -> str:
        """The name of the disturbance."""
        return UNDISTURBED if self.disturbance is None else self.disturbance.name

    def __str__(self) -> str:
        return self.name if self.disturbance is None else f"{self.name} {self.strength:g}"


@dataclass(frozen=True)
class StressResult:
    """What a call found, kept results among it, and what failed in it."""

    tables: Sequence[TextTable]
    """Dice, NDV and seconds; none where nothing could be registered."""
    failures: dict[str, str]
    """Why registrations failed, by pair, disturbance and method; they are tried again by the next call."""


def run_stress(
    cases: Sequence[Case],
    methods: Sequence[StressedMethod],
    tried: Sequence[Tried],
    out: Path,
    seed: int = 0,
) -> StressResult:
    """Register and score every case undisturbed and at every strength; write `stress.csv`, `.md`, `.html`, `pairs.csv`.

    Every result is kept in `out` as soon as it is there, so a later call goes on where this one ended.

    Args:
        cases: see `list_labelled_cases`.
        seed: a number of at least 0 that all random numbers belong to.

    Raises:
        RequestError: the outputs cannot be written, or would replace inputs; nothing was started.
        OSError: a result could not be kept, so that going on would be in vain.
    """
    require_writable(out)
    require_folder_apart(out, cases[0].root, [file for case in cases for file in (*case.images(), *case.files())])
    require_apart([out / name for name in _FILES], files_of(cases[0].root))
    remove_partial_files(out / _KEPT)
    settings = [_Setting(None, 0), *(_Setting(each.disturbance, value) for each in tried for value in each.strengths)]
    work = _Work(cases, methods, settings, KeptOutcomes(out / _KEPT), seed)
    with Progress(len(cases) * len(settings) * len(methods), "registering") as progress:
        for case in cases:
            work.do(case, progress)
    tables: list[TextTable] = []
    for name in _FILES:  # those of an earlier call, which may have found what this one has not
        (out / name).unlink(missing_ok=True)
    if work.found:
        pairs = pair_rows(work.in_order())
        means = mean_rows(pairs, [(each.name, each.strength) for each in settings], [each.name for each in methods])
        tables = text_tables(means, len(cases))
        write_text_atomically(out / "pairs.csv", pairs.to_csv(index=False))
        write_text_atomically(out / "stress.csv", means.to_csv(index=False))
        write_text_atomically(out / "stress.md", "\n".join(table.to_markdown() for table in tables))
        disturbances = [each.disturbance for each in tried]
        write_stress_report(out / "stress.html", means, tables, disturbances, cases, seed, work.pictures, work.failures)
    return StressResult(tables, work.failures)


@dataclass(frozen=True)
class _DisturbedPair:
    """A pair, and its scans as they are registered."""

    pair: LabelledPair
    fixed: Scan
    moving: Scan
    content: str
    """See `hash_of`."""

    @classmethod
    def of(cls, pair: LabelledPair, fixed: Scan, moving: Scan) -> _DisturbedPair:
        """Hash the scans once for all methods."""
        return cls(pair, fixed, moving, hash_of(pair, fixed, moving))


@dataclass
class _Work:
    """What is to be registered, and what was found."""

    cases: Sequence[Case]
    methods: Sequence[StressedMethod]
    settings: Sequence[_Setting]
    kept: KeptOutcomes
    seed: int
    found: dict[tuple[_Setting, str, Case], Outcome] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    pictures: StressPictures = field(default_factory=StressPictures)

    def do(self, case: Case, progress: Progress) -> None:
        """Register a case in every setting by every method; whatever goes wrong with one costs no other."""
        try:
            pair = LabelledPair.read(case)
        except Exception as error:
            self.failures[case.name] = reason_of(error, case.name)
            pair = None
        for setting in self.settings:
            disturbed = None if pair is None else self._disturbed(pair, setting)
            for method in self.methods:
                if disturbed is not None:
                    self._register(disturbed, setting, method)
                progress.advance(f"{case.name}, {setting}, {method.name}")

    def in_order(self) -> list[Measured]:
        """Everything that was found: setting by setting, method by method, pair by pair."""
        return [
            Measured(method.name, setting.name, setting.strength, str(case.split), case.name, **outcome.model_dump())
            for setting in self.settings
            for method in self.methods
            for case in self.cases
            if (outcome := self.found.get((setting, method.name, case))) is not None
        ]

    def _disturbed(self, pair: LabelledPair, setting: _Setting) -> _DisturbedPair | None:
        """The pair as it is registered; None where that is impossible."""
        disturbance = setting.disturbance
        if disturbance is None:
            return _DisturbedPair.of(pair, pair.fixed, pair.moving)
        try:
            fixed, moving = (
                disturbance(scan, setting.strength, [self.seed, zlib.crc32(pair.case.name.encode()), role])
                if role or disturbance.both_images
                else scan
                for role, scan in enumerate((pair.fixed, pair.moving))
            )
        except Exception as error:
            name = f"{pair.case.name}, {setting}"
            self.failures[name] = reason_of(error, name)
            return None
        self.pictures.add(pair.case, disturbance, setting.strength, pair.moving.image.data, moving.image.data)
        return _DisturbedPair.of(pair, fixed, moving)

    def _register(self, disturbed: _DisturbedPair, setting: _Setting, method: StressedMethod) -> None:
        """Take the outcome that is kept, or register, score and keep it."""
        case = disturbed.pair.case
        path = self.kept.path(method, disturbed.content)
        outcome = self.kept.find(path)
        if outcome is None:
            try:
                start = time.perf_counter()
                disp_vox = method.register(disturbed.fixed.image, disturbed.moving.image)
                seconds = time.perf_counter() - start
                dice_percent, ndv_percent = disturbed.pair.score(disp_vox, disturbed.moving)
            except Exception as error:
                name = f"{case.name}, {setting}, {method.name}"
                self.failures[name] = reason_of(error, name)
                return
            outcome = Outcome(dice_percent=dice_percent, ndv_percent=ndv_percent, seconds=seconds)
            self.kept.keep(path, outcome)
        self.found[setting, method.name, case] = outcome
