"""Everything that was measured, as CSV: one row a pair, one row a label of a pair, one row a landmark of a pair."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lumirkit.base.files import write_text_atomically
from lumirkit.data_manifests.structures import structure_name
from lumirkit.eval.cases import Case
from lumirkit.eval.leaderboard import LeaderboardResult

TABLE_NAMES = ("pairs", "labels", "landmarks")
"""The names of the files that are written, without .csv."""

_PAIR_COLUMNS = ["split", "case", "fixed", "moving"]


def pair_table(result: LeaderboardResult) -> pd.DataFrame:
    """One row a scored pair, one column a measure; failed pairs have a row with the reason in `failed`."""
    rows = [{**_pair(case), **measured.measures} for case, measured in result.scored]
    rows += [{"case": name, "failed": reason} for name, reason in result.failures.items()]
    return pd.DataFrame(rows, columns=_columns(rows, _PAIR_COLUMNS))


def label_table(result: LeaderboardResult) -> pd.DataFrame:
    """One row a label of a pair, with the label's name; empty cells where a label is not in both maps."""
    rows = [
        {**_pair(case), "label": label, "name": structure_name(label), **row}
        for case, measured in result.scored
        for label, row in measured.labels.items()
    ]
    return pd.DataFrame(rows, columns=_columns(rows, [*_PAIR_COLUMNS, "label", "name"]))


def landmark_table(result: LeaderboardResult) -> pd.DataFrame:
    """One row a landmark of a pair; empty cells where it was lost."""
    rows = [
        {**_pair(case), "landmark": landmark, **row}
        for case, measured in result.scored
        for landmark, row in measured.landmarks.items()
    ]
    return pd.DataFrame(rows, columns=_columns(rows, [*_PAIR_COLUMNS, "landmark"]))


def write_tables(folder: Path, result: LeaderboardResult) -> list[Path]:
    """Write pairs.csv, labels.csv and landmarks.csv (the last two where there is something in them)."""
    tables = (pair_table(result), label_table(result), landmark_table(result))
    written = []
    for name, table in zip(TABLE_NAMES, tables, strict=True):
        path = folder / f"{name}.csv"
        if len(table) or name == "pairs":
            write_text_atomically(path, table.to_csv(index=False))
            written.append(path)
        else:
            path.unlink(missing_ok=True)  # of an earlier call; it would be taken for part of this one
    return written


def _pair(case: Case) -> dict[str, str]:
    return {
        "split": str(case.split),
        "case": case.name,
        "fixed": str(case.pair.fixed_name),
        "moving": str(case.pair.moving_name),
    }


def _columns(rows: list[dict], first: list[str]) -> list[str]:
    """The leading columns, then all others in the order in which they are first met."""
    return list(dict.fromkeys([*first, *(key for row in rows for key in row)]))
