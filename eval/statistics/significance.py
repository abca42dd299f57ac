"""What chance has to do with a table: tests, intervals and ranks from the case values that methods share.

All statistics are those of scipy; here stands which one is asked of which values, by default those of the
leaderboard's columns. A case that is inf, NaN or absent for one of the methods compared is left out for all of
them, and the number of cases says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy import stats

from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.statistics.corrections import benjamini_hochberg, holm
from lumirkit.eval.tables.columns import COLUMNS, Column, columns_with_values
from lumirkit.eval.tables.rows import ScoredRow, require_same_cases

CONFIDENCE = 0.95
ALPHA = 0.05
_RESAMPLES = 9999
_LOWEST_RANK_SCORE = 0.1

Values = Float64[ndarray, " cases"]


def compare_pairs(
    methods: Sequence[ScoredRow], pairs: Sequence[tuple[str, str]], columns: Sequence[Column] = COLUMNS
) -> pd.DataFrame:
    """Wilcoxon's signed-rank test (two-sided) of the first method of each pair against the second, column by column.

    `p_holm` is corrected by Holm over all pairs of a column. `difference` is the mean of first - second with its
    bootstrap interval, in the column's unit; `effect` the matched-pairs rank-biserial correlation, 1 where the first is
    better in every case and -1 where it is worse in every case. With n cases no p is below 2 / 2^n, `p_least`.

    Raises:
        EvaluationError: a name is no method's, or the methods were scored on different cases or share no column.
    """
    by_name = _by_name(methods)
    for name in (name for pair in pairs for name in pair):
        if name not in by_name:
            raise EvaluationError(f"compare {name}: no such row; there are {', '.join(by_name)}.")
    lines: list[dict[str, Any]] = []
    for column in _columns(columns, methods):
        tested: list[dict[str, Any]] = []
        for first, second in pairs:
            a, b = _finite_in_all(column, (by_name[first], by_name[second]))
            low, high = interval_of_mean(a - b)
            tested.append(
                {
                    "column": column.key,
                    "first": first,
                    "second": second,
                    "cases": a.size,
                    "difference": (a - b).mean() if a.size else np.nan,
                    "low": low,
                    "high": high,
                    "effect": rank_biserial(a - b if column.high_is_better else b - a),
                    "p": signed_rank_p(a - b),
                    "p_least": min(1.0, 2.0 ** (1 - a.size)),
                }
            )
        corrected = holm([line["p"] for line in tested])
        lines += [line | {"p_holm": p} for line, p in zip(tested, corrected, strict=True)]
    return pd.DataFrame(lines)


def intervals(methods: Sequence[ScoredRow], columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Give each method and column the mean and its bootstrap interval (BCa), and the rank among all with its interval.

    Ranks (1 is best, ties share) are of the means; cases are drawn together for all methods, since they share them.
    """
    lines = []
    for column in _columns(columns, methods):
        values = _finite_in_all(column, methods)
        ranks, lows, highs = _rank_intervals(values, column.high_is_better)
        for number, method in enumerate(methods):
            low, high = interval_of_mean(values[number])
            lines.append(
                {
                    "column": column.key,
                    "row": method.name,
                    "cases": values.shape[1],
                    "mean": values[number].mean() if values.shape[1] else np.nan,
                    "low": low,
                    "high": high,
                    "rank": ranks[number],
                    "rank_low": lows[number],
                    "rank_high": highs[number],
                }
            )
    return pd.DataFrame(lines)


def compare_designs(methods: Sequence[ScoredRow], columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Make the tests of de Frutos et al. between all designs, which take the cases of each as a sample of its own.

    Tukey's range test (`p_tukey`, of the difference of means), and for every ordered pair the one-sided Mann-Whitney U
    test that the first is better, corrected by Benjamini-Hochberg over all pairs of a column (`p_fdr`).
    """
    lines = []
    for column in _columns(columns, methods):
        samples = [column.finite(method) for method in methods]
        if len(samples) < 2 or min(sample.size for sample in samples) < 2:
            continue
        tukey = _tukey_p(samples)
        better = "greater" if column.high_is_better else "less"
        tested: list[dict[str, Any]] = []
        for first, second in permutations(range(len(methods)), 2):
            one_sided = stats.mannwhitneyu(samples[first], samples[second], alternative=better).pvalue
            tested.append(
                {
                    "column": column.key,
                    "first": methods[first].name,
                    "second": methods[second].name,
                    "difference": samples[first].mean() - samples[second].mean(),
                    "p_tukey": tukey[first, second],
                    "p_better": one_sided,
                }
            )
        corrected = benjamini_hochberg([line["p_better"] for line in tested])
        lines += [line | {"p_fdr": p} for line, p in zip(tested, corrected, strict=True)]
    return pd.DataFrame(lines)


def ranking(methods: Sequence[ScoredRow], columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Compute the challenge's ranking score of every method, the best first.

    In each column a method wins against another if a Wilcoxon rank-sum test at p < 0.05 (unpaired, as the published
    code has it) finds it better. Its numbers of wins place the methods on a scale from 0.1 to 1, equal numbers share
    the mean of their places, and the geometric mean over the columns is the score. Source: Hering et al.,
    "Learn2Reg: comprehensive multi-task medical image registration challenge", IEEE TMI 2023, and its ranking script.
    """
    scores = {column.key: rank_scores(_wins(column, methods)) for column in _columns(columns, methods)}
    table = pd.DataFrame(scores, index=pd.Index([method.name for method in methods], name="row"))
    table["score"] = stats.gmean(table.to_numpy(), axis=1)
    return table.sort_values("score", ascending=False, kind="stable").reset_index()


def rank_scores(wins: Sequence[int]) -> Float64[ndarray, " methods"]:
    """Turn numbers of wins into scores between 0.1 and 1, equally spaced by rank; equal ones share their mean score."""
    if len(wins) == 1:
        return np.ones(1)
    places = (stats.rankdata(wins) - 1) / (len(wins) - 1)
    return _LOWEST_RANK_SCORE + (1 - _LOWEST_RANK_SCORE) * places


def signed_rank_p(differences: Values) -> float:
    """Compute the two-sided p of Wilcoxon's signed-rank test; it is 1 where nothing differs."""
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def rank_biserial(differences: Values) -> float:
    """Compute (sum of positive differences' ranks - that of negative ones) / sum of all; it is 0 where nothing differs.

    Source: Kerby, "The simple difference formula", 2014.
    """
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 0.0
    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def interval_of_mean(values: Values) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval (BCa) of the mean; it is NaN for fewer than two values.

    Where all values are equal, both ends are that value.
    """
    if values.size < 2:
        return np.nan, np.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = _bootstrap((values,), np.mean, "BCa")
    return float(found.low), float(found.high)


def _tukey_p(samples: Sequence[Float64[ndarray, ...]]) -> Float64[ndarray, "methods methods"]:
    """Compute p of Tukey's range test between all samples; it is 1 where no sample varies and all are equal."""
    if np.ptp(np.concatenate(samples)) == 0:
        return np.ones((len(samples), len(samples)))
    return np.asarray(stats.tukey_hsd(*samples).pvalue)


def consecutive(methods: Sequence[ScoredRow]) -> list[tuple[str, str]]:
    """Pair each row to compare with the one before it, to ask what the step from one to the next did."""
    names = [method.name for method in methods if not method.card.is_reference]
    return [(later, earlier) for earlier, later in pairwise(names)]


def _rank_intervals(
    values: Float64[ndarray, "methods cases"], high_is_better: bool
) -> tuple[Float[ndarray, " methods"], Float[ndarray, " methods"], Float[ndarray, " methods"]]:
    """Rank the means, with 95 % bootstrap intervals."""
    sign = -1 if high_is_better else 1

    def ranks(*samples: Float[ndarray, "*resamples cases"], axis: int = -1) -> Float[ndarray, "methods ..."]:
        means = np.stack([sample.mean(axis=axis) for sample in samples])
        return stats.rankdata(sign * means, axis=0)

    found = ranks(*values)
    if values.shape[1] < 2 or len(values) < 2:
        return found, np.full(len(values), np.nan), np.full(len(values), np.nan)
    interval = _bootstrap(tuple(values), ranks, "percentile", paired=True)
    return found, np.asarray(interval.low), np.asarray(interval.high)


def _bootstrap(
    samples: Sequence[Float64[ndarray, ...]], statistic: Callable[..., ndarray], method: str, paired: bool = False
) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its answer, NaN, says it
        return stats.bootstrap(
            samples,
            statistic,
            n_resamples=_RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            paired=paired,
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval


def _wins(column: Column, methods: Sequence[ScoredRow]) -> list[int]:
    """Count the others that each method is significantly better than."""
    wins = [0] * len(methods)
    samples = [column.finite(method) for method in methods]
    for one, other in combinations(range(len(methods)), 2):
        test = stats.ranksums(samples[one], samples[other])
        if test.pvalue < ALPHA:
            one_is_better = (test.statistic > 0) == column.high_is_better
            wins[one if one_is_better else other] += 1
    return wins


def _by_name(methods: Sequence[ScoredRow]) -> dict[str, ScoredRow]:
    require_same_cases(methods)
    return {method.name: method for method in methods}


def _columns(columns: Sequence[Column], methods: Sequence[ScoredRow]) -> tuple[Column, ...]:
    """Choose the columns that all methods have values for."""
    require_same_cases(methods)
    return columns_with_values(columns, methods, all)


def _finite_in_all(column: Column, methods: Sequence[ScoredRow]) -> Float64[ndarray, "methods cases"]:
    """Collect the values of each method, in the order of the first one's cases, where all have a finite one."""
    keys = column.keys(methods[0])
    values = np.array(
        [[column.value(method, key) for key in keys] for method in methods],
        dtype=np.float64,
    )
    return values[:, np.isfinite(values).all(axis=0)]
