"""The report of a benchmark as JSON, as Markdown and as tables on a screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumirkit.base.files import write_text_atomically
from lumirkit.bench.floor import Floor
from lumirkit.bench.kinds import IO_KINDS, SOURCE_KINDS, Kind
from lumirkit.bench.machine import Machine
from lumirkit.bench.scoring import ScoringBench
from lumirkit.bench.work import Measurement, Spread, Work

FILES = ("bench.json", "bench.md")
_NONE = "-"
_NOTES = (
    "Seconds: median (smallest to largest) of the repeats after one call that warms up. Memory: the most that the own "
    "process of a work held, and in brackets without Python and its libraries; GB are 10^9 bytes. Floor: the "
    "convolutions' arithmetic at the best measured rate, or moving the same bytes undecoded. The networks have the "
    "weights that training starts from; mean u is how far these move things. A training step is one pair: NCC, "
    "diffusion and NDV of the final registration, backward, optimizer. A triplet is three such pairs and the group "
    "consistency around them. Sources make the pair of a step, on the network's grid: the size over its resolution."
)


class Row(BaseModel):
    """One work and its outcome: a measurement, or an error."""

    what: str
    work: Work
    measurement: Measurement | None = None
    error: str | None = None
    floor_s: float | None = None
    """The least time that this machine can take."""
    reference_s: float | None = None
    """The median of the public code at the same work."""
    step_s: float | None = None
    """The median of a training step at the same size with the same network, beside a pair made for training."""

    @property
    def times_the_floor(self) -> float | None:
        """The median over the floor."""
        if self.measurement is None or self.floor_s is None:
            return None
        return self.measurement.seconds.median / self.floor_s

    @property
    def percent_of_a_step(self) -> float | None:
        """The median in percent of that of a training step."""
        if self.measurement is None or self.step_s is None:
            return None
        return 100 * self.measurement.seconds.median / self.step_s

    @property
    def reference_ratio(self) -> float | None:
        """The median of the public code over ours, which says how many times faster ours is."""
        if self.measurement is None or self.reference_s is None:
            return None
        return self.reference_s / self.measurement.seconds.median


class Report(BaseModel):
    """All rows of one run of the command, with the machine and its rates."""

    machine: Machine
    floor: Floor
    repeats: int
    rows: list[Row]
    scoring: ScoringBench | None = None

    def to_markdown(self) -> str:
        """Write a title, the machine, and one table for each kind of work."""
        machine, rates = self.machine, self.floor
        lines = [
            "# Benchmark",
            "",
            f"{machine.name}; device {machine.device}; torch {machine.torch}; "
            f"{machine.threads} threads; {self.repeats} repeats; {machine.date}; load before {machine.load:.2f}.",
            "",
            f"Measured rates in GFLOP/s: matrix product {_rates(rates.matrix_gflops)}, convolution "
            f"{_rates(rates.convolution_gflops)}. Copying: {digits(rates.copy_gb_per_s)} GB/s, read plus written.",
            "",
            _NOTES,
        ]
        for table in _tables(self.rows):
            lines += ["", f"## {table.title}", "", markdown_row(table.columns)]
            lines += [markdown_row(["---"] * len(table.columns)), *map(markdown_row, table.cells)]
        if self.scoring:
            lines += ["", "## scoring", "", self.scoring.to_markdown().rstrip()]
        return "\n".join([*lines, ""])

    def write(self, out: Path) -> None:
        """Write bench.md and bench.json into a folder, each whole or not at all."""
        as_json, as_markdown = FILES
        write_text_atomically(out / as_json, self.model_dump_json(indent=1) + "\n")
        write_text_atomically(out / as_markdown, self.to_markdown())

    def show(self, console: Console) -> None:
        """Print the tables."""
        for table in _tables(self.rows):
            shown = Table(*table.columns, title=table.title, box=SIMPLE_HEAD, pad_edge=False)
            for row in table.cells:
                shown.add_row(*row)
            console.print(shown)
        if self.scoring:
            console.print(self.scoring.to_markdown(), markup=False, highlight=False)


@dataclass(frozen=True)
class _Cells:
    """A table of text."""

    title: str
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]


_FIRST = ("what", "size", "median (min to max) s")
_LAST = ("peak GB", "floor s", "x floor", "reference s", "reference / ours")
_GROUPS: tuple[tuple[str, Sequence[Kind], Sequence[str]], ...] = (
    ("forward", (Kind.FORWARD,), ("mean u, voxels",)),
    ("step", (Kind.STEP,), ("forward s", "backward s", "saved GB")),
    ("triplet", (Kind.TRIPLET,), ()),
    ("sources", SOURCE_KINDS, ("% of a step",)),
    ("ensemble", (Kind.ENSEMBLE,), ("mean u, voxels",)),
    ("io", IO_KINDS, ()),
)


def _tables(rows: Sequence[Row]) -> Iterator[_Cells]:
    """Make one table, with its own columns, for each kind of work that has rows."""
    for title, kinds, own in _GROUPS:
        chosen = [row for row in rows if row.work.kind in kinds]
        if chosen:
            yield _Cells(title, (*_FIRST, *own, *_LAST), [_cells(row, own) for row in chosen])


def _cells(row: Row, own: Sequence[str]) -> list[str]:
    size = " x ".join(map(str, row.work.shape))
    found = row.measurement
    if found is None:
        why = (row.error or "").strip().splitlines()[-1:]
        return [row.what, size, f"failed: {' '.join(why)}", *[_NONE] * len([*own, *_LAST])]
    special = {"mean u, voxels": found.mean_displacement_vox, "saved GB": found.saved_gb}
    special |= {"% of a step": row.percent_of_a_step}
    special |= {f"{part} s": spread.median for part, spread in found.parts.items()}
    memory = f"{digits(found.peak_memory_gb)} ({digits(found.work_memory_gb)})"
    last = map(digits, (row.floor_s, row.times_the_floor, row.reference_s, row.reference_ratio))
    return [row.what, size, spread(found.seconds), *(digits(special[name]) for name in own), memory, *last]


def spread(seconds: Spread) -> str:
    """Write the median, and in brackets the smallest and the largest."""
    return f"{digits(seconds.median)} ({digits(seconds.min)} to {digits(seconds.max)})"


def digits(value: float | None) -> str:
    """Write a number with three significant digits, never as a power of ten."""
    if value is None:
        return _NONE
    if value == 0:
        return "0"
    decimals = 2 - floor(log10(abs(value)))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def _rates(by_dtype: dict[str, float]) -> str:
    return " and ".join(f"{digits(rate)} ({dtype})" for dtype, rate in by_dtype.items())


def markdown_row(cells: Sequence[str]) -> str:
    """Write one line of a table in Markdown."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
