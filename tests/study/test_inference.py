"""Intervals and tests against published tables and enumeration of every case."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from toptune_study import inference

VALUES = st.lists(st.integers(-6, 6), min_size=1, max_size=9).map(lambda v: np.array(v) / 100)

# Hollander and Wolfe, example 3.1: depression of nine patients before and after.
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


@given(d=VALUES)
@settings(deadline=None)
def test_signed_rank_p_few_values_is_the_share_of_all_signs(d: np.ndarray) -> None:
    d = d[d != 0]
    ranks = stats.rankdata(np.abs(np.round(d, 6)))
    sums = np.array([ranks[list(s)].sum() for s in product([False, True], repeat=len(d))])
    w = ranks[d > 0].sum()
    below, above = np.mean(sums <= w + 1e-9), np.mean(sums >= w - 1e-9)
    assert inference.signed_rank_p(d) == pytest.approx(min(1.0, 2 * min(below, above)), rel=1e-12)


@pytest.mark.parametrize("n", [6, 20, 40])
def test_signed_rank_p_without_ties_agrees_with_scipy(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, 1, n)
    expected = stats.wilcoxon(d, method="exact").pvalue
    assert inference.signed_rank_p(d) == pytest.approx(expected, rel=1e-10)


def test_signed_rank_p_equal_but_for_rounding_is_a_tie() -> None:
    # 0.1 + 0.2 - 0.3 is not 0, and 0.3 - 0.2 is not 0.1.
    d = np.array([0.1 + 0.2 - 0.3, 0.3 - 0.2, -0.1])
    assert inference.signed_rank_p(d) == 1.0


def test_hodges_lehmann_published_example_is_reproduced() -> None:
    # Examples 3.3 and 3.4: estimate -0.46, interval (-0.786, -0.010) of 96.1 %.
    estimate, interval = inference.hodges_lehmann(AFTER - BEFORE)
    assert estimate == pytest.approx(-0.46)
    assert interval == pytest.approx((-0.786, -0.010))
    assert inference.signed_rank_p(AFTER - BEFORE) == pytest.approx(2 * 0.01953, rel=1e-3)


@given(d=VALUES)
@settings(deadline=None)
def test_hodges_lehmann_negated_is_antisymmetric(d: np.ndarray) -> None:
    estimate, interval = inference.hodges_lehmann(d)
    negative, mirrored = inference.hodges_lehmann(-d)
    assert negative == pytest.approx(-estimate, abs=1e-15)
    assert (interval is None) == (len(d) < 6)
    if interval is not None and mirrored is not None:
        assert mirrored == pytest.approx((-interval[1], -interval[0]), abs=1e-15)


def test_hodges_lehmann_symmetric_samples_are_covered() -> None:
    """The interval of 95 % misses a median of zero in no more than 5 % of symmetric samples."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1000):
        _, interval = inference.hodges_lehmann(rng.standard_t(3, size=12))
        assert interval is not None
        missed += not interval[0] <= 0 <= interval[1]
    # At most 50 expected, standard deviation 7.
    assert missed < 50 + 4 * 7


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal"])
def test_bootstrap_interval_skewed_values_is_that_of_the_equations(draw: str) -> None:
    """Efron 1987: bias correction from the resampled means, acceleration from the jackknife."""
    x = getattr(np.random.default_rng(3), draw)(size=30)
    means = np.random.default_rng(0).choice(x, size=(40_000, 30)).mean(axis=1)
    bias = stats.norm.ppf(np.mean(means < x.mean()))
    away = x - x.mean()
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    found = inference.bootstrap_interval(x, n_resamples=40_000, random_state=1)
    # Both ends are quantiles of 40,000 means: their Monte Carlo error is about 1.5 % of the width.
    assert found == pytest.approx(expected, abs=0.05 * (expected[1] - expected[0]))


@given(d=VALUES)
@settings(deadline=None)
def test_bootstrap_interval_negated_is_antisymmetric_and_repeats(d: np.ndarray) -> None:
    found = inference.bootstrap_interval(d, n_resamples=500)
    if len(d) < 2:
        assert found is None
        return
    assert found is not None
    assert found[0] <= d.mean() + 1e-12
    assert found[1] >= d.mean() - 1e-12
    mirrored = inference.bootstrap_interval(-d, n_resamples=500)
    assert mirrored == pytest.approx((-found[1], -found[0]), abs=1e-11)
    assert inference.bootstrap_interval(d, n_resamples=500) == found


def test_bootstrap_interval_equal_values_is_that_value() -> None:
    assert inference.bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)


# Demšar 2006, table 5(a): two-tailed Nemenyi test, alpha = 0.05.
DEMSAR = dict(
    zip(range(2, 11), [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164], strict=True)
)


@pytest.mark.parametrize("k", DEMSAR)
def test_critical_difference_table_is_the_published_one(k: int) -> None:
    expected = DEMSAR[k] * np.sqrt(k * (k + 1) / (6 * 14))
    # The table has three decimals, some of them one off.
    assert inference.critical_difference(k, 14) == pytest.approx(expected, rel=5e-4)


def test_mean_ranks_and_friedman_published_example_are_reproduced() -> None:
    """Demšar 2006, table 6: C4.5 and three variants on 14 data sets."""
    # In the row before the last 0.975 is printed twice, and ranked 2 and 3.
    scores = np.array(
        [
            [0.763, 0.768, 0.771, 0.798],
            [0.599, 0.591, 0.590, 0.569],
            [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898],
            [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685],
            [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000],
            [0.940, 0.962, 0.965, 0.962],
            [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975],
            [0.957, 0.978, 0.946, 0.970],
        ]
    )
    assert inference.mean_ranks(scores) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert inference.critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    # The paper's 9.28 is not corrected for ties, of which there are three pairs and one four.
    statistic, p_value = inference.friedman(scores)
    assert statistic == pytest.approx(9.28 / (1 - (3 * 6 + 60) / (14 * 60)), rel=1e-3)
    assert p_value == pytest.approx(stats.chi2.sf(statistic, 3))


def test_friedman_all_tied_is_zero() -> None:
    assert inference.friedman(np.ones((4, 3))) == (0.0, 1.0)
