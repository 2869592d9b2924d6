"""Inference from a few dozen numbers, one a data set: bootstrap, signed ranks, mean ranks.

Letters: n data sets, k methods. References: Efron, Better bootstrap confidence intervals (1987);
Hollander and Wolfe, Nonparametric Statistical Methods, chapter 3; Demšar, Statistical comparisons
of classifiers over multiple data sets (2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

#: Values closer than this are equal: means over seeds of equal accuracies differ by rounding.
TIE = 1e-10


def bootstrap_interval(
    values: Floats,  # (n,)
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    random_state: int = 0,
) -> Interval | None:
    """Interval of the mean: bias-corrected and accelerated bootstrap over the values.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One number a data set.
    level : float
        Coverage it aims at.
    n_resamples, random_state : int
        Number of resamples, and the seed they are drawn with.

    Returns
    -------
    tuple of float, or None
        Lower and upper end; None for fewer than two values.
    """
    from scipy.special import ndtr, ndtri

    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < 2:
        return None
    if np.ptp(x) <= TIE:
        return float(x.mean()), float(x.mean())
    rng = np.random.default_rng(random_state)
    means = x[rng.integers(n, size=(n_resamples, n))].mean(axis=1)
    below = np.mean(means < x.mean() - TIE) + np.mean(means <= x.mean() + TIE)
    bias = ndtri(below / 2)
    # Leaving one value out moves the mean against that value.
    away = x - x.mean()
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    z = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def signed_rank_p(differences: Floats) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, exact also where differences are tied.

    Differences of zero are left out, as Wilcoxon did; if all are zero, it is 1.
    """
    from scipy.stats import rankdata

    d = _without_rounding(differences)
    d = d[d != 0]
    # Tied ranks are halves: twice the ranks are integers.
    ranks = np.rint(2 * rankdata(np.abs(d))).astype(int)
    cdf = np.cumsum(_sum_distribution(ranks))
    w = int(ranks[d > 0].sum())
    return min(1.0, 2.0 * float(cdf[min(w, int(ranks.sum()) - w)]))


def _without_rounding(values: Floats) -> Floats:
    rounded: Floats = np.round(np.asarray(values, dtype=np.float64) / TIE) * TIE
    return rounded


def _sum_distribution(ranks: NDArray[Any]) -> Floats:
    """Probability of every sum of the ranks that fair coins choose; index s is the sum s."""
    p = np.ones(1)
    for rank in ranks.tolist():
        wider = np.zeros(len(p) + rank)
        wider[: len(p)] += p / 2
        wider[rank:] += p / 2
        p = wider
    return p


def hodges_lehmann(
    differences: Floats,  # (n,)
    *,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """Median of the Walsh averages, and the interval that belongs to Wilcoxon's test.

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


def critical_difference(k: int, n: int, *, alpha: float = 0.05) -> float:
    """Least difference of mean ranks, k methods on n data sets, significant by Nemenyi's test."""
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n)))


def mean_ranks(scores: Floats) -> Floats:  # (n, k) -> (k,)
    """Mean ranks of the columns, 1 for the highest; equal scores share theirs."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(-_without_rounding(scores), axis=1).mean(axis=0)
    return ranks


def friedman(scores: Floats) -> tuple[float, float]:  # (n, k)
    """Friedman's chi-square, corrected for ties, and its p-value; 0 and 1 if all are tied."""
    from scipy.stats import friedmanchisquare

    rounded = _without_rounding(scores)
    if (np.ptp(rounded, axis=1) == 0).all():
        return 0.0, 1.0
    found = friedmanchisquare(*rounded.T)
    return float(found.statistic), float(found.pvalue)


def cliques(ranks: Floats, difference: float) -> list[tuple[int, ...]]:
    """Largest groups of methods whose mean ranks all lie within `difference`; two or more in each.

    Parameters
    ----------
    ranks : ndarray of shape (k,)
        Mean ranks.
    difference : float
        Critical difference.

    Returns
    -------
    list of tuple of int
        Positions in `ranks`, by rank.
    """
    order = np.argsort(ranks, kind="stable")
    found: list[tuple[int, ...]] = []
    end = 0
    for start in range(len(order)):
        last = start
        while last + 1 < len(order) and ranks[order[last + 1]] - ranks[order[start]] <= difference:
            last += 1
        if last > start and last + 1 > end:
            found.append(tuple(order[start : last + 1].tolist()))
            end = last + 1
    return found
