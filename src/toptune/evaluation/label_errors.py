"""Detection of wrong labels from out-of-sample probabilities.

Leave-one-out probabilities are what cross-validated ones are to confident learning (Northcutt,
Jiang and Chuang 2021, arXiv 1911.00068), without the folds. Its threshold of class k is the mean
probability of k for the samples that carry its label,

    t_k = mean of p_k(x_i) over i with y_i = k,

and a label is the more suspect the less probable it is for a class that is usually recognised:

    suspicion of i = 1 - p_y(x_i) / t_y,   y = y_i.

Letters: n samples, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: By how much another class must be more probable than the label: less is not even seen in numbers
#: of three digits, and is what a model that learned nothing gives to every sample.
MARGIN = 0.001


@dataclass(frozen=True, eq=False)
class SuspectedLabels:
    """Samples whose label another class beats by `MARGIN`, the most suspect first.

    Attributes
    ----------
    index : ndarray of int, shape (k,)
        Which samples.
    suggested : ndarray of int, shape (k,)
        The class that beats the label: the most probable one.
    score : ndarray of float, shape (k,)
        `label_suspicion` of these samples.
    confident : ndarray of bool, shape (k,)
        Whether the suggested class reaches its threshold t_k: the rule of confident learning.
    """

    index: NDArray[np.intp]
    suggested: NDArray[np.intp]
    score: NDArray[np.float64]
    confident: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.index)


def label_suspicion(proba: ArrayLike, codes: ArrayLike) -> NDArray[np.float64]:
    """Score how improbable each label is, compared with other labels of its class.

    Parameters
    ----------
    proba : array-like of shape (n, c)
        Probabilities of each sample by a model that did not see it.
    codes : array-like of shape (n,)
        Labels, as positions of columns.

    Returns
    -------
    ndarray of shape (n,)
        At most 1, for a label that is impossible; 0 for one as probable as is usual in its class.

    Raises
    ------
    ValueError
        If shapes do not fit, there are fewer than two classes, or a label is not among them.

    Examples
    --------
    >>> from toptune.evaluation.label_errors import label_suspicion
    >>> label_suspicion([[0.75, 0.25], [0.25, 0.75]], [0, 0]).tolist()
    [-0.5, 0.5]
    """
    P, y = _checked(proba, codes)
    usual = np.maximum(_thresholds(P, y), np.finfo(np.float64).tiny)
    out: NDArray[np.float64] = 1.0 - P[np.arange(len(y)), y] / usual[y]
    return out


def suspected_labels(proba: ArrayLike, codes: ArrayLike) -> SuspectedLabels:
    """Rank the samples whose label another class beats by `MARGIN` by `label_suspicion`.

    Parameters
    ----------
    proba, codes
        As for `label_suspicion`.

    Returns
    -------
    SuspectedLabels

    Raises
    ------
    ValueError
        As `label_suspicion` does.

    Examples
    --------
    >>> from toptune.evaluation.label_errors import suspected_labels
    >>> found = suspected_labels([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 1, 0])
    >>> found.index.tolist(), found.suggested.tolist(), found.confident.tolist()
    ([2, 1], [1, 0], [True, True])
    """
    P, y = _checked(proba, codes)
    score = label_suspicion(P, y)
    order = np.argsort(-score, kind="stable")
    best = P[order].argmax(axis=1)
    beaten = P[order, best] - P[order, y[order]] >= MARGIN  # a tie is no evidence
    index, suggested = order[beaten], best[beaten]
    confident = P[index, suggested] >= _thresholds(P, y)[suggested]
    return SuspectedLabels(index, suggested, score[index], confident)


def weak_evidence(proba: ArrayLike, codes: ArrayLike) -> str:
    """Return a warning if the model is no better than the largest class, else an empty string.

    Parameters
    ----------
    proba, codes
        As for `label_suspicion`; at least one sample.

    Returns
    -------
    str
        Empty where the most probable class is the label more often than the largest class is.

    Raises
    ------
    ValueError
        As `label_suspicion` does.

    Examples
    --------
    >>> from toptune.evaluation.label_errors import weak_evidence
    >>> weak_evidence([[0.5, 0.5], [0.6, 0.4], [0.4, 0.6]], [0, 1, 0])
    'leave-one-out is right on 33.3 % of the images, and always naming the largest class on 66.7 %'
    >>> weak_evidence([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    ''
    """
    P, y = _checked(proba, codes)
    right, largest = np.mean(P.argmax(axis=1) == y), np.bincount(y).max() / len(y)
    if right > largest:
        return ""
    return (
        f"leave-one-out is right on {100 * right:.1f} % of the images, and always naming the "
        f"largest class on {100 * largest:.1f} %"
    )


def _thresholds(
    P: NDArray[np.float64],  # (n, c)
    y: NDArray[np.intp],  # (n,)
) -> NDArray[np.float64]:  # (c,)
    """Mean probability of each class for the samples that carry its label; 1 where none does."""
    counts = np.bincount(y, minlength=P.shape[1])
    sums = np.bincount(y, weights=P[np.arange(len(y)), y], minlength=P.shape[1])
    out: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return out


def _checked(
    proba: ArrayLike, codes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:  # (n, c), (n,)
    P, y = np.asarray(proba, dtype=np.float64), np.asarray(codes)
    if P.ndim != 2 or P.shape[1] < 2 or y.shape != (len(P),):
        raise ValueError(
            f"proba and codes must have shapes (n, c), c > 1, and (n,), got {P.shape} and {y.shape}"
        )
    if len(y) and not (y.min() >= 0 and y.max() < P.shape[1]):
        raise ValueError(
            f"codes must be positions of the {P.shape[1]} columns of proba, got {y.min()} to "
            f"{y.max()}"
        )
    return P, y.astype(np.intp)
