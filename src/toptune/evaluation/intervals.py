"""Intervals of shares: of right answers, of images of a class that are found."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from toptune.evaluation.classification import resampled_interval


def share_interval(
    right: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 10_000,
    random_state: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of the share of right answers.

    Parameters
    ----------
    right : array-like of bool, shape (n,)
        Whether each answer is right.
    groups : array-like of shape (n,), optional
        What belongs together: images of one object, frames of one video. Then groups, not samples,
        are taken to be independent.
    n_resamples : int, default=10_000
        Bootstrap samples, for groups.
    random_state : int, default=0
        Seed of the bootstrap.

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
    percentile bootstrap of whole groups; one group alone tells nothing, (0, 1).

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
    members = np.asarray(groups)
    if members.shape != hits.shape:
        raise ValueError(f"groups must have shape {hits.shape}, got {members.shape}")
    if len(set(members.tolist())) < 2:
        return 0.0, 1.0
    _, unit, sizes = np.unique(members, return_inverse=True, return_counts=True)
    sums = np.bincount(unit, weights=hits).astype(np.intp)
    return resampled_interval(sums, sizes, n_resamples, np.random.default_rng(random_state))
