"""Intervals of shares, and of the difference between two classifiers. Letters: n samples, u units.

Units are what is independent: samples, or groups of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class PairedDifference:
    """Difference between the accuracies of two classifiers on the same samples.

    Attributes
    ----------
    difference : float
        Accuracy of a less accuracy of b.
    low, high : float
        95 % interval of the difference.
    p_value : float
        Two-sided, of a difference that is zero.
    n : int
        Number of samples.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(
    y_true: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 10_000,
    random_state: int = 0,
) -> PairedDifference:
    """Compare the accuracy of two classifiers on the same samples.

    Parameters
    ----------
    y_true, predicted_a, predicted_b : array-like of shape (n,)
        True labels and those that a and b predicted.
    groups : array-like of shape (n,), optional
        What belongs together: images of one object, frames of one video. Then groups, not samples,
        are taken to be independent.
    n_resamples : int, default=10_000
        Bootstrap samples.
    random_state : int, default=0
        Seed of the bootstrap.

    Returns
    -------
    PairedDifference

    Raises
    ------
    ValueError
        If the shapes differ, there are fewer than two samples (or groups), or `n_resamples` < 1.

    Notes
    -----
    The interval is that of the percentile bootstrap: samples, or whole groups, are drawn with
    replacement. It has no width where a and b are right about the same samples.

    The p-value is exact. Were both equally good, each unit's difference would be as likely with the
    other sign; p is the part of all 2^u assignments of signs whose sum is at least as far from zero
    as the one observed. Without groups this is McNemar's exact test.

    Examples
    --------
    >>> from toptune.evaluation.intervals import paired_difference
    >>> found = paired_difference([0] * 10, [0] * 9 + [1], [0] * 4 + [1] * 6)
    >>> found.difference, round(found.p_value, 4)
    (0.5, 0.0625)
    """
    y, a, b = (np.asarray(values) for values in (y_true, predicted_a, predicted_b))
    if y.ndim != 1 or a.shape != y.shape or b.shape != y.shape:
        raise ValueError(
            "true and predicted labels must be of one shape (n,), got "
            f"{y.shape}, {a.shape} and {b.shape}"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be >= 1, got {n_resamples}")
    better = (a == y).astype(np.intp) - (b == y)
    sums, sizes = _unit_sums(better, groups)
    if len(sizes) < 2:
        what = "samples" if groups is None else "groups"
        raise ValueError(f"a comparison needs at least two {what}, got {len(sizes)}")
    low, high = _bootstrap_interval(sums, sizes, n_resamples, random_state)
    return PairedDifference(
        difference=float(better.mean()),
        low=low,
        high=high,
        p_value=_sign_flip_p_value(sums),
        n=len(y),
    )


def share_interval(right: ArrayLike, *, groups: ArrayLike | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the share of right answers.

    Parameters
    ----------
    right : array-like of bool, shape (n,)
        Whether each answer is right.
    groups : array-like of shape (n,), optional
        As for `paired_difference`.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If there are no answers, or the shapes differ.

    Notes
    -----
    Without groups Wilson's score interval (1927, Probable Inference, the Law of Succession, and
    Statistical Inference), which keeps a width where all answers are right. With groups the
    percentile bootstrap of whole groups; one group alone gives (0, 1).

    Examples
    --------
    >>> from toptune.evaluation.intervals import share_interval
    >>> low, high = share_interval([True] * 9 + [False])
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    from scipy.stats import binomtest

    hits = np.asarray(right, dtype=bool)
    if hits.ndim != 1 or len(hits) == 0:
        raise ValueError(f"right must have shape (n,), n > 0, got {hits.shape}")
    if groups is None:
        found = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)
    sums, sizes = _unit_sums(hits.astype(np.intp), groups)
    if len(sizes) < 2:
        return 0.0, 1.0
    return _bootstrap_interval(sums, sizes)


def _unit_sums(
    values: NDArray[np.intp],  # (n,)
    groups: ArrayLike | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:  # (u,), (u,)
    """Sum the values of each unit; return the sums and the sizes of the units."""
    members = np.arange(len(values)) if groups is None else np.asarray(groups)
    if members.shape != values.shape:
        raise ValueError(f"groups must have shape {values.shape}, got {members.shape}")
    _, unit, sizes = np.unique(members, return_inverse=True, return_counts=True)
    return np.bincount(unit, weights=values).astype(np.intp), sizes


def _bootstrap_interval(
    sums: NDArray[np.intp],  # (u,)
    sizes: NDArray[np.intp],  # (u,)
    n_resamples: int = 10_000,
    random_state: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of sum / size, units drawn with replacement.

    How often each kind of unit (same sum, same size) is drawn is multinomial, and there are few.
    """
    generator = np.random.default_rng(random_state)
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    step = max(1, 10_000_000 // len(counts))  # bounds the memory
    means = []
    for first in range(0, n_resamples, step):
        drawn = generator.multinomial(
            counts.sum(), counts / counts.sum(), size=min(step, n_resamples - first)
        )
        total, size = (drawn @ kinds.T).T
        means.append(total / size)
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _sign_flip_p_value(sums: NDArray[np.intp]) -> float:  # sums: (u,)
    """Probability that the sum, each unit's sign drawn anew, is as far from zero or farther."""
    from scipy.signal import convolve
    from scipy.stats import binom

    chances = np.ones(1)  # of the sums -s, -s + 1, ..., s
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    for size, m in zip(sizes.tolist(), counts.tolist(), strict=True):
        # m units of one size: their sum is size (2 k - m), k of them being positive.
        part = np.zeros(2 * size * m + 1)
        part[:: 2 * size] = binom.pmf(np.arange(m + 1), m, 0.5)
        chances = convolve(chances, part)
    middle = len(chances) // 2
    distance = np.abs(np.arange(len(chances)) - middle)
    return float(min(1.0, chances[distance >= abs(int(sums.sum()))].sum()))
