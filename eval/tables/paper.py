"""The table of the paper: scored rows, with check marks for their ingredients; Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from lumirkit.base.files import write_text_atomically
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.columns import Column, columns_in, columns_with_values
from lumirkit.eval.tables.rows import ScoredRow, require_same_cases


@dataclass(frozen=True)
class Cell:
    """Mean and population standard deviation over `count` finite cases; `lost` counts the others.

    `count` is None where a publication does not tell it.
    """

    mean: float
    std: float
    count: int | None
    lost: int = 0

    @property
    def cases(self) -> int | None:
        """The number of all cases, finite or not; None where it is not known."""
        return None if self.count is None else self.count + self.lost

    @classmethod
    def of(cls, column: Column, row: ScoredRow) -> Cell | None:
        """The cell of a row; None where the column has no case."""
        cases, finite = column.values(row).size, column.finite(row)
        if not cases:
            return None
        if not finite.size:
            return cls(np.nan, np.nan, 0, cases)
        return cls(float(finite.mean()), float(finite.std()), finite.size, cases - finite.size)


@dataclass(frozen=True)
class TableRow:
    """A line of the table: its ingredients and one cell a column."""

    name: str
    ingredients: tuple[str, ...]
    cells: Mapping[str, Cell | None]


@dataclass(frozen=True)
class PaperTable:
    """Rows to compare, rows of reference that are set apart, and the columns that have values."""

    columns: tuple[Column, ...]
    ingredients: tuple[str, ...]
    rows: tuple[TableRow, ...]
    references: tuple[TableRow, ...]
    note: str

    @classmethod
    def of(
        cls,
        scored: Sequence[ScoredRow],
        published: Sequence[TableRow] = (),
        column_set: ColumnSet = ColumnSet.LEADERBOARD,
    ) -> PaperTable:
        """The table of some scored rows.

        Args:
            published: rows with numbers of others, printed as references.
            column_set: which columns; those without any value are left out.

        Raises:
            EvaluationError: the rows were scored on different cases, or without these columns.
        """
        require_same_cases(scored)
        columns = columns_with_values(columns_in(column_set, scored), scored)
        rows: list[TableRow] = []
        references: list[TableRow] = []
        for row in scored:
            cells = {column.key: Cell.of(column, row) for column in columns}
            line = TableRow(row.name, row.card.ingredients, cells)
            (references if row.card.is_reference else rows).append(line)
        marks = dict.fromkeys(mark for row in (*rows, *published) for mark in row.ingredients)
        return cls(columns, tuple(marks), tuple(rows), (*references, *published), column_set.note)

    def best(self, column: Column) -> str:
        """The printed mean of the best of the rows to compare; empty where all print the same."""
        means = [cell.mean for row in self.rows if (cell := row.cells[column.key]) and cell.count != 0]
        printed = {column.number(mean) for mean in means}
        return "" if len(printed) < 2 else column.number(max(means) if column.high_is_better else min(means))

    def is_best(self, row: TableRow, column: Column) -> bool:
        """True where no row to compare prints a better mean; equal prints share the honour."""
        cell = row.cells.get(column.key)
        return row in self.rows and cell is not None and column.number(cell.mean) == self.best(column)

    def footnotes(self) -> list[str]:
        """Remarks for the reader: cases that are in no mean, and columns of one case."""
        notes = []
        for column in self.columns:
            cells = [(row.name, cell) for row in (*self.rows, *self.references) if (cell := row.cells.get(column.key))]
            notes += [
                f"{name}, {column.heading}: {cell.lost} of {cell.cases} cases are inf or NaN and not in the mean"
                for name, cell in cells
                if cell.lost
            ]
            if cells and all(cell.cases == 1 for _, cell in cells):
                notes.append(f"{column.heading}: one case, so no standard deviation")
        return notes

    def counts(self) -> str:
        """The number of cases that each column is the mean of."""
        cells = {column: self.rows[0].cells[column.key] for column in self.columns} if self.rows else {}
        return ", ".join(f"{c.heading} {cell.cases}" for c, cell in cells.items() if cell is not None)

    def as_text(self, form: str) -> str:
        """The table as "md", "tex" (needs booktabs and amssymb) or "csv" (numbers, unrounded)."""
        if form == "csv":
            return self._frame().to_csv(index=False)
        return _templates().get_template(f"table.{form}.j2").render(table=self, cell=print_cell)

    def write(self, path: Path) -> None:
        """Write the form that the file's ending names.

        Raises:
            EvaluationError: the ending is another.
        """
        form = path.suffix.removeprefix(".")
        if form not in ("md", "tex", "csv"):
            raise EvaluationError(f"{path}: found the ending '{path.suffix}'; expected .md, .tex or .csv.")
        write_text_atomically(path, self.as_text(form))

    def _frame(self) -> pd.DataFrame:
        lines = []
        for row in (*self.rows, *self.references):
            line: dict[str, object] = {"row": row.name, "reference": row in self.references}
            line |= {mark: mark in row.ingredients for mark in self.ingredients}
            for column in self.columns:
                cell = row.cells.get(column.key)
                values = (cell.mean, cell.std, cell.count) if cell is not None else (np.nan, np.nan, 0)
                line |= dict(zip((f"{column.key}_{part}" for part in ("mean", "std", "cases")), values, strict=True))
            lines.append(line)
        return pd.DataFrame(lines).astype({f"{column.key}_cases": "Int64" for column in self.columns})


def print_cell(cell: Cell | None, column: Column) -> str:
    """The text mean(std) in the column's digits; the mean alone of one case, a dash of none."""
    if cell is None or cell.count == 0:
        return "–"
    mean = column.number(cell.mean)
    return mean if cell.count == 1 else f"{mean}({column.number(cell.std)})"


def escape_tex(text: str) -> str:
    """Text with LaTeX's special characters made printable."""
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: names.get(found[0], f"\\{found[0]}"), text)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lumirkit.eval.tables"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["tex"] = escape_tex
    return environment
