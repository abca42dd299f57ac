"""The summary table."""

import math
import re
from io import StringIO

from rich.console import Console

from lumirkit.eval.leaderboard import LeaderboardResult
from lumirkit.eval.tables.summary import summary_table

KINDS = {"Non-diffeomorphic Volumes": "ndv", "TRE_lm": "tre", "DSC": "dice", "HD95": "hd95"}


def result(**aggregates):
    aggregates = {name.replace("NDV", "Non-diffeomorphic Volumes"): value for name, value in aggregates.items()}
    full = {name: {"mean": mean, "std": std, "30": 0.0} for name, (mean, std) in aggregates.items()}
    return LeaderboardResult("LUMIR", {}, full, KINDS, guarded={"cases": {}})


def rendered(rows, width=200):
    text = StringIO()
    Console(width=width, file=text).print(summary_table(rows))
    return text.getvalue()


def lines_of(text):
    """The cells of every line between the rule and the caption."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    rule = next(number for number, (first, *_) in enumerate(lines) if first.startswith("──"))
    return [cells for cells in lines[rule + 1 :] if len(cells) > 1]


def test_digits_of_a_published_row():
    registered = result(
        ID_dice=(0.7834, 0.0171),
        OOD_dice=(0.7649, 0.0119),
        MM_dice=(0.745, 0.0301),
        TRE_lm=(2.2449, 0.268),
        HD95=(2.95, 0.34),
        NDV=(0.00151, 0.00033),
    )
    assert lines_of(rendered({"registered": registered})) == [
        ["Dice in-domain %", "78.3 (1.7)"],
        ["Dice out-of-domain %", "76.5 (1.2)"],
        ["Dice multi-modal %", "74.5 (3.0)"],
        ["TRE", "2.24 (0.27)"],
        ["HdDist95", "2.95 (0.34)"],
        ["NDV %", "0.0015 (3.3e-4)"],
    ]


def test_missing_and_infinite_values():
    text = rendered({"zero field": result(HD95=(math.inf, math.nan), NDV=(0.0, 0.0))})
    assert "inf (nan)" in text
    assert "0 (0)" in text
    assert text.count("–") == 4


def test_rows_keep_their_order():
    text = rendered({"zero field": result(), "registered": result()})
    assert text.index("zero field") < text.index("registered")


def test_fits_a_narrow_terminal():
    """Every cell stands on one line, of wide numbers too."""
    wide, tiny = (0.5, 0.123), (1.23e-6, 4.56e-7)
    row = result(ID_dice=wide, OOD_dice=wide, MM_dice=wide, TRE_lm=(12.3, 10.2), HD95=(123.4, 100.2), NDV=tiny)
    rows = {"zero field": row, "registered": row}
    assert lines_of(rendered(rows, width=80)) == lines_of(rendered(rows))
