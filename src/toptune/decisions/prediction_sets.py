"""Conformal prediction on leave-one-out scores: sets of classes, and rates of false alarms.

A nonconformity score says how badly a class fits a sample. Were the n calibration samples and a new
one exchangeable, and scored alike, the new score would be as likely in any place among theirs, so

    q = the ceil((n + 1) coverage)-th smallest of the n scores

is not exceeded with probability `coverage` at least (Vovk, Gammerman and Shafer 2005, Algorithmic
Learning in a Random World; Papadopoulos et al. 2002). Leave-one-out scores of the training samples
take the part of those of a calibration set: no sample is given up. A new sample is scored by the
model of all samples, which saw one more, so that this holds nearly and not exactly (the jackknife
of Barber et al. 2021, arXiv 1905.02928).

Where samples come in groups, the groups are exchangeable and their samples are not: each group then
counts once, spread over its samples (Dunn, Wasserman and Ramdas 2022, arXiv 1809.07441).

Letters: n samples, c classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def check_rate(name: str, value: float) -> float:
    """Return a rate that lies strictly between 0 and 1, as 1 less the rate does in float64.

    Raises
    ------
    ValueError
        If it does not.
    """
    if isinstance(value, bool) or not 0.0 < 1.0 - value < 1.0:
        raise ValueError(f"{name} must be between 0 and 1, and neither of them, got {value!r}")
    return float(value)


def conformal_quantile(
    scores: ArrayLike,
    coverage: float,
    *,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> float:
    """Bound that the score of a new sample does not exceed with probability `coverage`.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Nonconformity of samples that the model did not see.
    coverage : float
        Probability, between 0 and 1.
    groups : array-like of shape (n,), optional
        What belongs together; the new sample is of a new group.
    weights : array-like of shape (n,), optional
        How many samples each one stands for, > 0; all 1 by default.

    Returns
    -------
    float
        Infinity where there are too few samples, or groups, for that coverage: fewer than
        coverage / (1 - coverage).

    Raises
    ------
    ValueError
        If there are no scores, or one is NaN; `coverage` is not between 0 and 1, or shapes differ.

    Examples
    --------
    >>> from toptune.decisions.prediction_sets import conformal_quantile
    >>> conformal_quantile([0.4, 0.1, 0.3, 0.2], 0.8), conformal_quantile([0.4, 0.1], 0.9)
    (0.4, inf)
    """
    check_rate("coverage", coverage)
    S = np.asarray(scores, dtype=np.float64)
    if S.ndim != 1 or len(S) == 0:
        raise ValueError(f"scores must be of shape (n,), n > 0, got {S.shape}")
    if np.isnan(S).any():
        raise ValueError(f"{np.isnan(S).sum()} of {len(S)} scores are NaN")
    mass = np.ones(len(S)) if weights is None else np.asarray(weights, dtype=np.float64)
    if mass.shape != S.shape or (mass <= 0).any():
        raise ValueError(f"weights must be {len(S)} numbers > 0, got shape {mass.shape}")
    units = float(len(S))
    if groups is not None:
        members = np.asarray(groups)
        if members.shape != S.shape:
            raise ValueError(f"groups must have shape {S.shape}, got {members.shape}")
        _, unit = np.unique(members, return_inverse=True)
        of_group = np.bincount(unit, weights=mass)
        mass = mass / of_group[unit]
        units = float(len(of_group))
    # One unit more, the new sample, lies beyond all the others in the worst case.
    order = np.argsort(S, kind="stable")
    reached = np.cumsum(mass[order]) * (units / mass.sum()) / (units + 1.0)
    # Sums of n numbers: what rounding takes away must not cost a sample.
    place = int(np.searchsorted(reached, coverage * (1.0 - 1e-12)))
    return float(S[order[place]]) if place < len(S) else float("inf")


def set_threshold(
    proba: ArrayLike,
    codes: ArrayLike,
    coverage: float,
    *,
    groups: ArrayLike | None = None,
) -> float:
    """Least probability that puts a class into the prediction set.

    The nonconformity of a class is 1 less its probability, which makes the sets the smallest on
    average (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451).

    Parameters
    ----------
    proba : array-like of shape (n, c)
        Probabilities of samples by models that did not see them.
    codes : array-like of shape (n,)
        Their classes, as positions of columns.
    coverage : float
        Share of sets that are to hold the true class.
    groups : array-like of shape (n,), optional
        What belongs together.

    Returns
    -------
    float
        Minus infinity where there are too few samples for that coverage: every class is then in.

    Raises
    ------
    ValueError
        As `conformal_quantile` does.

    Examples
    --------
    >>> from toptune.decisions.prediction_sets import set_threshold
    >>> set_threshold([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]], [0, 1, 1], 0.5)
    0.7
    """
    P, y = np.asarray(proba, dtype=np.float64), np.asarray(codes)
    if P.ndim != 2 or y.shape != (len(P),):
        raise ValueError(
            f"proba and codes must have shapes (n, c) and (n,), got {P.shape} and {y.shape}"
        )
    return -conformal_quantile(-P[np.arange(len(y)), y], coverage, groups=groups)
