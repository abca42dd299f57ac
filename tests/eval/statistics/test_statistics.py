"""Statistics against worked examples: by hand, and those that R prints in its own help pages."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.statistics.corrections import benjamini_hochberg, holm
from lumirkit.eval.statistics.significance import (
    compare_designs,
    compare_pairs,
    consecutive,
    interval_of_mean,
    intervals,
    rank_biserial,
    rank_scores,
    ranking,
    signed_rank_p,
)
from lumirkit.eval.tables.rows import RowCard, ScoredRow

# R: example(wilcox.test), depression scores before and after; PlantGrowth; permeability constants
FIRST_VISIT = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
SECOND_VISIT = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
CONTROL = [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14]
TREATMENT_1 = [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69]
TREATMENT_2 = [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26]
AT_TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLIER = [1.15, 0.88, 0.90, 0.74, 1.21]


def method(name, values, split="in-domain landmarks", measure="tre_vox", **card):
    cases = {(split, f"case {n}"): {measure: float(value)} for n, value in enumerate(values)}
    return ScoredRow(RowCard(name=name, **card), cases)


def only(table: pd.DataFrame, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    (line,) = table.to_dict("records")
    return line


def test_signed_rank_as_r():
    """R: wilcox.test(x, y, paired = TRUE, alternative = "greater"): V = 40, p-value = 0.01953."""
    assert signed_rank_p(FIRST_VISIT - SECOND_VISIT) / 2 == pytest.approx(0.01953, abs=5e-6)
    # V = 40 of 45: (40 - 5) / 45
    assert rank_biserial(FIRST_VISIT - SECOND_VISIT) == pytest.approx(35 / 45)


def test_signed_rank_by_hand():
    """Of the 2^5 signs only the two extreme ones are as far as all positive."""
    assert signed_rank_p(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 2**5)
    assert rank_biserial(np.array([1.0, -2, 3])) == pytest.approx((1 + 3 - 2) / 6)
    assert rank_biserial(np.array([0.0, 2, -2])) == 0
    assert signed_rank_p(np.zeros(4)) == 1
    assert rank_biserial(np.zeros(4)) == 0


def test_corrections_as_r():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and "BH"."""
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_closed(p):
    """A test is rejected where Bonferroni rejects every set of hypotheses that it belongs to (Marcus et al. 1976)."""
    families = [family for size in range(1, len(p) + 1) for family in combinations(range(len(p)), size)]
    bonferroni = {family: min(1, len(family) * min(p[number] for number in family)) for family in families}
    expected = [max(bonferroni[family] for family in families if number in family) for number in range(len(p))]
    np.testing.assert_allclose(holm(p), expected, rtol=1e-12)


def test_tukey_as_r():
    """R: TukeyHSD(aov(weight ~ group, PlantGrowth)): 0.3908711, 0.1979960, 0.0120064."""
    table = compare_designs([method("ctrl", CONTROL), method("trt1", TREATMENT_1), method("trt2", TREATMENT_2)])
    for first, second, difference, p in (
        ("trt1", "ctrl", -0.371, 0.3908711),
        ("trt2", "ctrl", 0.494, 0.1979960),
        ("trt2", "trt1", 0.865, 0.0120064),
    ):
        line = only(table, first=first, second=second)
        assert line["difference"] == pytest.approx(difference)
        assert line["p_tukey"] == pytest.approx(p, abs=1e-5)


def test_mann_whitney_as_r():
    """R: wilcox.test(x, y, alternative = "g"): W = 35, p-value = 0.1272; TRE is better low, so `earlier` is first."""
    table = compare_designs([method("at term", AT_TERM), method("earlier", EARLIER + [np.nan] * 5)])
    assert only(table, first="earlier", second="at term")["p_better"] == pytest.approx(0.1272, abs=5e-5)


def test_a_comparison_in_the_direction_of_the_column():
    dice = {"split": "in-domain", "measure": "dice"}
    better, worse = np.array([0.7, 0.8, 0.75, 0.72]), np.array([0.6, 0.65, 0.7, 0.71])
    line = only(compare_pairs([method("a", better, **dice), method("b", worse, **dice)], [("a", "b")]))
    assert line["difference"] == pytest.approx(100 * (better - worse).mean())
    assert line["low"] < line["difference"] < line["high"]
    assert (line["effect"], line["cases"], line["p_least"]) == (1, 4, 2 / 2**4)
    errors = only(compare_pairs([method("a", better), method("b", worse)], [("a", "b")]))
    assert errors["effect"] == -1


def test_holm_is_over_the_pairs_of_a_column():
    rng = np.random.default_rng(0)
    methods = [method(name, rng.normal(shift, 1, 12)) for name, shift in (("a", 0), ("b", 1), ("c", 2))]
    table = compare_pairs(methods, [("b", "a"), ("c", "b"), ("c", "a")])
    np.testing.assert_allclose(table["p_holm"], holm(table["p"].tolist()))
    assert (table["p_holm"] >= table["p"]).all()


def test_a_lost_case_is_left_out_for_both():
    line = only(compare_pairs([method("a", [1, 2, np.nan, 4]), method("b", [2, np.inf, 3, 6])], [("a", "b")]))
    assert (line["cases"], line["difference"]) == (2, -1.5)


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = [low < 5 < high for low, high in (interval_of_mean(rng.normal(5, 1, 40)) for _ in range(60))]
    assert stats.binomtest(sum(hits), len(hits), 0.94).pvalue > 0.001


def test_intervals_of_few_or_equal_values():
    assert np.isnan(interval_of_mean(np.array([3.0]))).all()
    assert interval_of_mean(np.array([3.0, 3.0])) == (3, 3)


def test_rank_intervals():
    """A row that is best in every case is first in every resample; two that take turns share the other places."""
    noise = np.tile([0.5, -0.5], 6)
    table = intervals([method("far", np.full(12, 9.0)), method("b", 20 + noise), method("c", 20 - noise)])
    far, b = only(table, row="far"), only(table, row="b")
    assert (far["rank"], far["rank_low"], far["rank_high"]) == (1, 1, 1)
    assert (b["rank"], b["rank_low"], b["rank_high"]) == (2.5, 2, 3)


def test_ranking_score_by_hand():
    """Three wins, one, one and none of four: places 4, 2.5, 2.5 and 1 on a scale from 0.1 to 1."""
    np.testing.assert_allclose(rank_scores([3, 1, 1, 0]), [1, 0.55, 0.55, 0.1])
    assert rank_scores([0]) == 1
    rng = np.random.default_rng(2)
    methods = [method(name, rng.normal(mean, 0.1, 10)) for name, mean in (("good", 1), ("bad", 3), ("fair", 2))]
    table = ranking(methods)
    assert table["row"].tolist() == ["good", "fair", "bad"]
    np.testing.assert_allclose(table["score"], [1, 0.55, 0.1])


def test_what_cannot_be_compared():
    with pytest.raises(EvaluationError, match="compare c: no such row; there are a, b"):
        compare_pairs([method("a", [1, 2]), method("b", [1, 2])], [("a", "c")])
    with pytest.raises(
        EvaluationError, match=r"b and a .* different cases; 1 only in b: case 2 \(in-domain landmarks\)"
    ):
        compare_pairs([method("a", [1, 2]), method("b", [1, 2, 3])], [("a", "b")])


def test_rows_are_compared_with_the_one_before():
    methods = [method("zero", [1], is_reference=True), method("a", [1]), method("b", [1]), method("c", [1])]
    assert consecutive(methods) == [("b", "a"), ("c", "b")]
