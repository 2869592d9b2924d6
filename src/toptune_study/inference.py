"""Inference from a few dozen numbers, one a data set: bootstrap, signed ranks, mean ranks.

Letters: n data sets, k methods. The bootstrap and Friedman's test are scipy's. Wilcoxon's test is
not: with ties scipy takes the normal distribution or a sample of permutations, here it is exact.
References: Hollander and Wolfe, Nonparametric Statistical Methods, chapter 3; Demšar, Statistical
comparisons of classifiers over multiple data sets (2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Interval = tuple[float, float]

#: Values closer than this are equal: means over seeds of equal accuracies differ by rounding.
TIE = 1e-10
# Decimals that TIE leaves, and steps far below it.
_DECIMALS, _STEP = 10, 1e-12


def bootstrap_interval(
    values: ArrayLike,  # (n,)
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    random_state: int = 0,
) -> Interval | None:
    """Return the bias-corrected and accelerated (BCa) bootstrap interval of the mean.

    Parameters
    ----------
    values : array of shape (n,)
        One number a data set.
    level : float
        Nominal coverage.
    n_resamples, random_state : int
        Number of resamples, and the seed they are drawn with.

    Returns
    -------
    tuple of float, or None
        Lower and upper end; None for fewer than two values.
    """
    # Whole numbers, so that means that are equal but for rounding are equal.
    steps = np.rint(np.asarray(values, dtype=np.float64) / _STEP)
    if len(steps) < 2:
        return None
    if np.ptp(steps) == 0:
        mean = float(steps.mean()) * _STEP
        return mean, mean
    found = stats.bootstrap(
        (steps,),
        np.mean,
        confidence_level=level,
        n_resamples=n_resamples,
        method="BCa",
        rng=np.random.default_rng(random_state),
    ).confidence_interval
    return float(found.low) * _STEP, float(found.high) * _STEP


def signed_rank_p(differences: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, exact also with ties.

    Differences of zero are left out, as Wilcoxon did; if all are zero, it is 1.
    """
    d = np.round(np.asarray(differences, dtype=np.float64), _DECIMALS)
    d = d[d != 0]
    # Tied ranks are halves: twice the ranks are integers.
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    cdf = np.cumsum(_sum_distribution(ranks))
    w = int(ranks[d > 0].sum())
    return min(1.0, 2.0 * float(cdf[min(w, int(ranks.sum()) - w)]))


def _sum_distribution(ranks: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of every sum of ranks with fair signs; index s is the sum s."""
    p = np.ones(1)
    for rank in ranks.tolist():
        nothing = np.zeros(rank)
        p = (np.concatenate([p, nothing]) + np.concatenate([nothing, p])) / 2
    return p


def hodges_lehmann(
    differences: ArrayLike,  # (n,)
    *,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """Return the median of the Walsh averages, and the interval that belongs to Wilcoxon's test.

    The interval covers at least `level`; None where so few differences, five for 0.95, give none.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    i, j = np.triu_indices(n)
    walsh = np.sort((d[i] + d[j]) / 2)
    cdf = np.cumsum(_sum_distribution(np.arange(1, n + 1)))
    outside = int(np.searchsorted(cdf, (1 - level) / 2, side="right"))
    if outside == 0:
        return float(np.median(walsh)), None
    return float(np.median(walsh)), (float(walsh[outside - 1]), float(walsh[-outside]))


def mean_ranks(scores: ArrayLike) -> NDArray[np.float64]:  # (n, k) -> (k,)
    """Return the mean ranks of the columns, 1 for the highest; equal scores share theirs."""
    ranks = np.asarray(stats.rankdata(-_rounded(scores), axis=1), dtype=np.float64)
    means: NDArray[np.float64] = ranks.mean(axis=0)
    return means


def friedman(scores: ArrayLike) -> tuple[float, float]:  # (n, k)
    """Return Friedman's chi-square, corrected for ties, and its p-value; 0 and 1 if all tie."""
    values = _rounded(scores)
    if (np.ptp(values, axis=1) == 0).all():
        return 0.0, 1.0
    found = stats.friedmanchisquare(*values.T)
    return float(found.statistic), float(found.pvalue)


def _rounded(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    return np.asarray(values.round(_DECIMALS), dtype=np.float64)


def critical_difference(k: int, n: int, *, alpha: float = 0.05) -> float:
    """Return the least significant difference of mean ranks, k methods on n data sets (Nemenyi)."""
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n)))
