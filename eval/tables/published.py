"""Rows of published tables, as references beside one's own; read from `published.csv`."""

from __future__ import annotations

import csv
from importlib import resources

from lumirkit.eval.tables.columns import COLUMNS
from lumirkit.eval.tables.paper import Cell, TableRow


def published_rows() -> list[TableRow]:
    """Table 1 of Honkamaa & Marttinen 2025: the LUMIR25 validation leaderboard."""
    text = resources.files("lumirkit.eval.tables").joinpath("published.csv").read_text(encoding="utf-8")
    return [
        TableRow(
            f"{row['row']} (published)",
            tuple(row["ingredients"].split()),
            {column.key: _cell(row[column.key]) for column in COLUMNS},
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _cell(text: str) -> Cell:
    """Read mean and standard deviation off `77.7(1.5)`; papers do not say over how many cases they are."""
    mean, std = text.removesuffix(")").split("(")
    return Cell(float(mean), float(std), count=None)
