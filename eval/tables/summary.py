"""Tables of leaderboard results for people to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich import box
from rich.table import Table

from lumirkit.data_manifests.evaluation import Split
from lumirkit.eval.leaderboard import DICE_KEYS, Aggregate, LeaderboardResult
from lumirkit.eval.tables.columns import one_decimal, two_decimals

_MISSING = "–"


@dataclass(frozen=True)
class _Column:
    heading: str
    find: Callable[[LeaderboardResult], Aggregate | None]
    number: Callable[[float], str]


def summary_table(rows: Mapping[str, LeaderboardResult]) -> Table:
    """One row a method (its name is the key), one column a leaderboard metric, as mean (std) over the cases.

    Dice in percent, TRE and HdDist95 in voxels, NDV in percent of the brain; a dash where a result lacks the metric.
    """
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption="mean (std) over pairs; distances in voxels"
    )
    table.add_column("method", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column.heading, justify="right")
    for method, result in rows.items():
        table.add_row(method, *(_cell(column.find(result), column.number) for column in _COLUMNS))
    return table


def _cell(found: Aggregate | None, number: Callable[[float], str]) -> str:
    return _MISSING if found is None else f"{number(found['mean'])} ({number(found['std'])})"


def _split_dice(split: Split) -> Callable[[LeaderboardResult], Aggregate | None]:
    return lambda result: result.aggregates.get(DICE_KEYS[split])


def _metric(kind: str) -> Callable[[LeaderboardResult], Aggregate | None]:
    """The aggregate of the first metric of a kind, whatever the configs call it."""

    def find(result: LeaderboardResult) -> Aggregate | None:
        names = [name for name in result.aggregates if result.metrics.get(name) == kind]
        return result.aggregates[names[0]] if names else None

    return find


def _percent(value: float) -> str:
    return one_decimal(100 * value)


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


_COLUMNS = (
    _Column("Dice %\nin-\ndomain", _split_dice(Split.IN_DOMAIN), _percent),
    _Column("Dice %\nout-of-\ndomain", _split_dice(Split.OUT_OF_DOMAIN), _percent),
    _Column("Dice %\nmulti-\nmodal", _split_dice(Split.MULTI_MODAL), _percent),
    _Column("TRE", _metric("tre"), two_decimals),
    _Column("HdDist95", _metric("hd95"), two_decimals),
    _Column("NDV %", _metric("ndv"), _two_digits),
)
